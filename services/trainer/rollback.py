"""The handler of a rollback: an earlier model becomes the champion again, as a new version."""

from pydantic import SecretStr

from shared.artifacts import TamperedArtifact, sealed, verify
from shared.audit import digest, require_request, subject_of_rollback
from shared.events import ModelPromoted, RollbackRequested, caused_fields
from shared.failures import WillNotPass
from shared.outcome import Outcome, record_fields
from shared.records import Batch, ModelVersion
from shared.settings import Settings
from shared.store import NUMBERED, Store


def restore_model(event: RollbackRequested, store: Store, settings: Settings) -> Outcome:
    """Promote the bytes of an earlier champion under the next version number.

    The number is taken before the champion is read. If a training takes it meanwhile, the record is
    refused, and the next try sees the champion that came of it.

    Raises:
        WillNotPass: no operator has signed for it, the version cannot be restored, its bytes are
            not what was sealed, or the champion is not the one that the person saw.
    """
    subject = subject_of_rollback(event)
    asked = require_request(event.request, "rollback", event.pipeline, subject, store, settings)
    newest = store.newest(ModelVersion, {"pipeline": event.pipeline}, "version")
    champion = store.champion(event.pipeline)
    original = original_of(event.pipeline, event.model_version, store)
    if newest is None or champion is None or champion.version != event.champion_version:
        raise WillNotPass(
            f"v{event.champion_version} was the champion of {event.pipeline} when "
            f"v{event.model_version} was asked for, and {_now(champion)}; look again "
            "(trimtab models) and roll back once more if it is still wanted"
        )
    if is_in_force(original, champion):
        raise WillNotPass(f"v{original.version} of {event.pipeline} is the champion already")
    key = _require_sealed(original, store, settings)
    record = original.model_copy(
        update={
            **record_fields(event, "trainer"),
            "version": newest.version + 1,
            "reason": f"a person rolled back from v{champion.version} to v{original.version}",
            "champion_version": champion.version,
            "sequence": _newest_sequence(event.pipeline, store) or original.sequence,
            "lineage": original.lineage | {"reason": "rollback"},
            "restores": original.version,
            "request": asked.number,
            "request_digest": digest(asked),
            "handled_seconds": None,
        }
    )
    promoted = ModelPromoted(
        **caused_fields(event, "trainer", ModelPromoted),
        model_version=record.version,
        replaced_version=champion.version,
        sequence=original.sequence,
        window=original.window,
        window_rows=_window_rows(original, store),
        restores=original.version,
    )
    return Outcome(sealed(record, key), (promoted,))


def original_of(pipeline: str, version: int, store: Store) -> ModelVersion:
    """The version that a rollback to `version` restores: itself, or what it was a restoration of.

    Raises:
        WillNotPass: there is no such version, or it never was the champion.
    """
    model = _version(pipeline, version, store)
    if model.decision != "promoted":
        raise WillNotPass(
            f"v{version} of {pipeline} never was the champion, and only a former one can be "
            f"restored; it was rejected: {model.reason}"
        )
    return model if model.restores is None else _version(pipeline, model.restores, store)


def is_in_force(original: ModelVersion, champion: ModelVersion) -> bool:
    """Whether the champion is a version, or its restoration."""
    return original.version in (champion.version, champion.restores)


def _version(pipeline: str, version: int, store: Store) -> ModelVersion:
    query = {"pipeline": pipeline, "version": version}
    if model := store.newest(ModelVersion, query, "version"):
        return model
    raise WillNotPass(f"{pipeline} has no model v{version}; `trimtab models` lists those it has")


def _now(champion: ModelVersion | None) -> str:
    return f"v{champion.version} is now" if champion else "there is none now"


def _require_sealed(model: ModelVersion, store: Store, settings: Settings) -> SecretStr:
    if settings.model_signing_key is None:
        raise WillNotPass("MODEL_SIGNING_KEY is not set: without it no model can be trusted")
    data = store.blob(model.model)
    try:
        verify(data, model, settings.model_signing_key)
    except TamperedArtifact as error:
        raise WillNotPass(f"v{model.version} is not restored: {error}") from None
    return settings.model_signing_key


def _newest_sequence(pipeline: str, store: Store) -> int | None:
    query = {"pipeline": pipeline, "sequence": NUMBERED}
    newest = store.newest(Batch, query, "sequence")
    return newest.sequence if newest else None


def _window_rows(model: ModelVersion, store: Store) -> int:
    """As its promotion told it, which is kept with the record."""
    rows = (each.window_rows for each in store.events_of(model) if isinstance(each, ModelPromoted))
    return next(rows, int(model.metrics["data_stats"]["total_samples"]))
