"""The watch: whether the model repository still has each champion as it was published.

Anybody who may push can replace what people load. Git names contents by their hash, so the entries
of two commits tell what differs, and no content is read, checked out or run.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from services.publisher.bundle import FILE_NAMES, MODEL_FILE
from services.publisher.isolated_git import checked_address
from services.publisher.publish import published_path
from services.publisher.repository import Expected, ModelRepository
from shared.authentication import Unauthentic
from shared.events import PublicationAltered, deterministic_id
from shared.failures import WillNotPass, WillPass
from shared.pipeline import Pipeline
from shared.plain_text import printable
from shared.records import Alteration, ModelVersion, Publication
from shared.stage import Resources
from shared.store import Store
from shared.watch import PublicationWatch, forget_watch, keep_watch, watch_of

log = structlog.get_logger(__name__)

_PUBLISHING: Final = timedelta(minutes=15)
"""A model promoted this recently may be on the branch before its record is in the store."""
_LONGEST: Final = 500
_SHOWN: Final = 5


def watch_publications(resources: Resources) -> None:
    """Look at every pipeline's newest publication, and tell people of what somebody changed."""
    try:
        address = checked_address(resources.settings.model_repository or "")
    except WillNotPass as failure:
        log.warning("no publication can be looked at", reason=str(failure))
        return
    for pipeline in resources.pipelines.values():
        query = {"pipeline": pipeline.name}
        publication = resources.store.newest(Publication, query, "model_version")
        if publication is None:
            continue
        if (publication.repository, publication.branch) != (address, pipeline.publish.branch):
            forget_watch(resources.store, pipeline.name)  # it publishes elsewhere now
        elif not _is_publishing(publication, resources.store):
            _look_at(publication, pipeline, resources)


def _is_publishing(publication: Publication, store: Store) -> bool:
    champion = store.champion(publication.pipeline)
    if champion is None or champion.version <= publication.model_version:
        return False
    return datetime.now(UTC) - champion.recorded_at < _PUBLISHING


def _look_at(publication: Publication, pipeline: Pipeline, resources: Resources) -> None:
    now = datetime.now(UTC)
    before = _before(pipeline.name, resources.store)
    if before and before.model_version != publication.model_version:
        before = None
    watch = PublicationWatch(
        pipeline=pipeline.name,
        checked_at=now,
        seen_at=before.seen_at if before else None,
        as_published_at=before.as_published_at if before else None,
        model_version=publication.model_version,
        tag=publication.tag,
        changes=before.changes if before else [],
    )
    try:
        changes = _changes(publication, pipeline, resources)
    except (WillPass, WillNotPass) as failure:
        log.warning("the publication could not be looked at", reason=str(failure))
        failed = printable(str(failure))[:_LONGEST]
        keep_watch(resources.store, watch.model_copy(update={"failure": failed}))
        return
    seen: dict[str, Any] = {"seen_at": now, "changes": changes}
    if changes:
        _tell(publication, changes, watch.as_published_at, resources)
    else:
        seen["as_published_at"] = now
    keep_watch(resources.store, watch.model_copy(update=seen))


def _before(pipeline: str, store: Store) -> PublicationWatch | None:
    try:
        return watch_of(store, pipeline)
    except Unauthentic as error:
        log.error("what was seen last is not known", reason=str(error))
        return None


def _changes(publication: Publication, pipeline: Pipeline, resources: Resources) -> list[str]:
    """What is not as it was published, each in a sentence.

    Raises:
        WillPass, WillNotPass: the repository did not answer, or with more than may be.
    """
    settings = resources.settings
    repository = ModelRepository.for_a_look(
        settings.model_repository or "",
        publication.branch,
        settings.git_cache / "watch",
        settings.github_username,
        settings.github_token,
    )
    expected = Expected(
        commit=publication.commit,
        tag=publication.tag,
        tag_object=publication.tag_object,
        paths=tuple(published_path(name, pipeline) for name in FILE_NAMES),
        model_file=published_path(MODEL_FILE, pipeline),
        model=_published_bytes(publication, resources),
    )
    return repository.changes_since(expected)


def _published_bytes(publication: Publication, resources: Resources) -> bytes:
    query = {"pipeline": publication.pipeline, "version": publication.model_version}
    model = resources.store.newest(ModelVersion, query, "version")
    if model is None:
        raise WillNotPass(f"the store has no model v{publication.model_version}")
    return resources.store.blob(model.model)


def _tell(
    publication: Publication, changes: list[str], since: datetime | None, resources: Resources
) -> None:
    """Tell people once of the same changes since the time when all was as published."""
    began = since.isoformat() if since else "never seen as published"
    about = (publication.pipeline, publication.model_version, began, *sorted(changes))
    identity = deterministic_id("altered", *about)
    now = datetime.now(UTC)
    event = PublicationAltered(
        event_id=identity,
        trace_id=publication.trace_id,
        pipeline=publication.pipeline,
        occurred_at=now,
        model_version=publication.model_version,
        commit=publication.commit,
        branch=publication.branch,
        reason=in_one_text(changes),
        url=publication.url,
    )
    record = Alteration(
        id=f"publisher:{identity}",
        pipeline=publication.pipeline,
        trace_id=publication.trace_id,
        recorded_at=now,
        model_version=publication.model_version,
        changes=changes,
    )
    if not resources.store.record(record, [event]):
        return
    log.error("somebody changed what was published", changes=changes)
    resources.send(record, (event,))


def in_one_text(changes: Iterable[str]) -> str:
    """The changes in one text of a bounded length."""
    listed = list(changes)
    more = len(listed) - _SHOWN
    text = " ".join([*listed[:_SHOWN], *([f"And {more} more."] if more > 0 else [])])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
