"""A reference's profile in the store: fitted once, and read by every worker."""

from dataclasses import dataclass
from functools import lru_cache

from services.drift.calibration.profile import Profile
from services.drift.tables.frame import Frame
from services.drift.tables.roles import Roles, roles_of
from shared.events import Sha256
from shared.frames import arrow_table
from shared.pipeline import Pipeline
from shared.records import Reference
from shared.store import Store


@dataclass(frozen=True)
class StoredProfile:
    """A profile and the hash of its bytes, by which counts know their bins."""

    digest: Sha256
    profile: Profile


def store_profile(data: Sha256, roles: Roles, store: Store) -> Sha256:
    """Fit the profile of a reference's rows, and keep it.

    Raises:
        WillNotPass: the rows are not in the store.
    """
    table = arrow_table(store.blob(data))
    return store.put_blob(Profile.fit(Frame(table), roles=roles).to_bytes())


def profile_of(reference: Reference, pipeline: Pipeline, store: Store) -> StoredProfile:
    """The profile of a reference under the pipeline as it is now.

    It is fitted now if the reference has none, or one of other columns or of another version.

    Raises:
        WillNotPass: neither the profile nor the rows are in the store.
    """
    roles = roles_of(pipeline)
    if reference.profile:
        try:
            stored = _parsed(reference.profile, store)
        except ValueError:  # another version wrote it
            stored = None
        if stored and stored.profile.roles == roles:
            return stored
    return _parsed(_fitted(reference.data, roles, store), store)


@lru_cache(maxsize=4)
def _fitted(data: Sha256, roles: Roles, store: Store) -> Sha256:
    return store_profile(data, roles, store)


@lru_cache(maxsize=4)
def _parsed(digest: Sha256, store: Store) -> StoredProfile:
    return StoredProfile(digest, Profile.from_bytes(store.blob(digest)))
