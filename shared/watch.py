"""What the publisher last saw on the model repository: whether each champion is as it published it.

It is kept for the command line and the exporter, one document a pipeline. The publisher writes it.
"""

from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict

from shared.store import Store

_COLLECTION: Final = "publication_watch"


class PublicationWatch(BaseModel):
    """The newest look at a pipeline's published model."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pipeline: str
    checked_at: AwareDatetime
    """When the publisher last looked, whatever came of it."""
    seen_at: AwareDatetime | None = None
    """When it last got an answer."""
    as_published_at: AwareDatetime | None = None
    """When all was last seen to be as published."""
    model_version: int
    tag: str
    changes: list[str] = []
    """What is there in place of what was published, each in a sentence. Empty: all is as published,
    as far as the last answer tells."""
    failure: str | None = None
    """Why there was no answer at the last look."""


def watch_of(store: Store, pipeline: str) -> PublicationWatch | None:
    """The newest look at a pipeline's published model; none before the first.

    Raises:
        Unauthentic: it was not written by this system.
    """
    found = store.kept(_COLLECTION, pipeline)
    return PublicationWatch.model_validate(found) if found else None


def forget_watch(store: Store, pipeline: str) -> None:
    """Forget what was seen, as when a pipeline publishes elsewhere now."""
    store.database[_COLLECTION].delete_one({"_id": pipeline})


def keep_watch(store: Store, watch: PublicationWatch) -> None:
    """Keep a look in place of the one before."""
    store.keep(_COLLECTION, watch.pipeline, watch.model_dump())
