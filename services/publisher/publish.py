"""The handler: a promoted model becomes one commit on the model repository."""

import posixpath
from urllib.parse import urlsplit

import structlog
from pydantic import ValidationError

from services.publisher.bundle import FILE_NAMES, MODEL_FILE, Files, bundle
from services.publisher.model_card import METRICS
from services.publisher.repository import Commit, ModelRepository
from services.publisher.signing import Signer, signer_of
from shared.artifacts import TamperedArtifact, sha256, verify
from shared.audit import digest, entry_of, head, head_at
from shared.authentication import Unauthentic
from shared.drift_report import read_report
from shared.events import ModelPromoted, ModelPublished, Sha256, caused_fields
from shared.failures import WillNotPass, WillPass
from shared.git_names import model_tag
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline
from shared.plain_text import printable, without_addresses, without_markup
from shared.promotions import require_earlier_taken_up
from shared.records import AuditHead, DriftReport, ModelVersion, Publication
from shared.settings import Settings, SettingsError
from shared.store import Store
from shared.wording import measured, p_equals

log = structlog.get_logger(__name__)


def publish_model(
    event: ModelPromoted, pipeline: Pipeline, store: Store, settings: Settings
) -> Outcome:
    """Commit and push a model's files, unless its commit is on the branch already.

    Raises:
        NotYet: the champion before it is not published; commits are in the order of promotions.
        WillPass: the repository is out of reach.
        WillNotPass: the model is not what was sealed, a file is too large, the push is refused, or
            a later champion is on the branch, as when an earlier refusal is replayed.
    """
    signer = _signer(settings)
    repository = _repository(pipeline, settings, signer)
    require_earlier_taken_up(event, "publisher", store)
    model = _model(event.pipeline, event.model_version, store)
    data = _sealed_bytes(model, store, settings)
    files = _files_as_published(model, pipeline, repository, store)
    if files is None:
        files = _bundled(model, data, pipeline, store, signer)
    report = store.get(DriftReport, model.drift_report)
    audit = _audit_head(store)
    commit = _commit(event, model, report, files, pipeline, store, settings, audit)
    published = repository.publish(commit)
    url = commit_url(repository.address, published.commit)
    publication = Publication(
        **record_fields(event, "publisher"),
        model_version=model.version,
        commit=published.commit,
        branch=pipeline.publish.branch,
        tag=commit.tag,
        repository=repository.address,
        url=url,
        tag_object=published.tag_object,
        audit=audit if published.tag_object else None,
        already_there=published.already_there,
    )
    told = ModelPublished(
        **caused_fields(event, "publisher", ModelPublished),
        model_version=model.version,
        sequence=event.sequence,
        window_rows=event.window_rows,
        commit=published.commit,
        branch=pipeline.publish.branch,
        url=url,
    )
    return Outcome(publication, (told,))


def _signer(settings: Settings) -> Signer | None:
    try:
        return signer_of(settings)
    except SettingsError as error:  # somebody changed the key's file since the start
        raise WillNotPass(str(error)) from None


def _repository(pipeline: Pipeline, settings: Settings, signer: Signer | None) -> ModelRepository:
    if not settings.model_repository:
        raise WillNotPass("MODEL_REPOSITORY is not set: there is nowhere to publish to")
    return ModelRepository(
        settings.model_repository,
        pipeline.publish.branch,
        settings.git_cache,
        settings.github_username,
        settings.github_token,
        signer,
    )


def _model(pipeline: str, version: int, store: Store) -> ModelVersion:
    model = store.newest(ModelVersion, {"pipeline": pipeline, "version": version}, "version")
    if model is None:
        raise WillNotPass(f"the store has no model v{version} of {pipeline}")
    if model.decision != "promoted":
        raise WillNotPass(f"model v{version} of {pipeline} was {model.decision}: {model.reason}")
    return model


def _sealed_bytes(model: ModelVersion, store: Store, settings: Settings) -> bytes:
    """The model's bytes, which are those that were sealed."""
    if settings.model_signing_key is None:
        raise WillNotPass("MODEL_SIGNING_KEY is not set: without it no model can be trusted")
    data = store.blob(model.model)
    try:
        verify(data, model, settings.model_signing_key)
    except TamperedArtifact as error:
        raise WillNotPass(f"model v{model.version} is not published: {error}") from None
    return data


def _files_as_published(
    model: ModelVersion, pipeline: Pipeline, repository: ModelRepository, store: Store
) -> Files | None:
    """The files of the version that a model restores, as its first commit has them.

    None: it restores none, or that commit cannot be had or does not hold the sealed model.
    """
    query = {"pipeline": model.pipeline, "model_version": model.restores}
    first = store.newest(Publication, query, "recorded_at") if model.restores else None
    if first is None:
        return None
    paths = {published_path(name, pipeline): name for name in FILE_NAMES}
    found = repository.files_of(first.commit, paths) or {}
    files = {paths[path]: content for path, content in found.items()}
    return files if sha256(files.get(MODEL_FILE, b"")) == model.model else None


def _bundled(
    model: ModelVersion, data: bytes, pipeline: Pipeline, store: Store, signer: Signer | None
) -> Files:
    """The files made of the records; those of a restored version of the records that it had."""
    described = _model(model.pipeline, model.restores, store) if model.restores else model
    report = store.get(DriftReport, described.drift_report)
    plots = {name: _kept(picture, store) for name, picture in described.plots.items()}
    return bundle(
        described,
        data,
        report,
        pipeline,
        report_details(report, store),
        {name: picture for name, picture in plots.items() if picture},
        signer,
    )


def _kept(blob: Sha256, store: Store) -> bytes | None:
    try:
        return store.blob(blob)
    except WillNotPass:  # a card says enough without a plot
        return None


def published_path(name: str, pipeline: Pipeline) -> str:
    """Where a file of a publication stands in the repository."""
    return posixpath.normpath(posixpath.join(pipeline.publish.directory, name))


def _commit(
    event: ModelPromoted,
    model: ModelVersion,
    report: DriftReport | None,
    files: Files,
    pipeline: Pipeline,
    store: Store,
    settings: Settings,
    audit: AuditHead,
) -> Commit:
    return Commit(
        pipeline=model.pipeline,
        version=model.version,
        run=model.trace_id,
        files={published_path(name, pipeline): files.get(name) for name in FILE_NAMES},
        model_file=published_path(MODEL_FILE, pipeline),
        subject=f"{_deed(model)}: {few_words(model, report)}",
        body=f"{_quoted(model.reason)}\n\n{metrics_line(model)}",
        trailers=_asked_by(model, store),
        tag_trailers={"Trimtab-Audit": audit.in_words()},
        at=event.occurred_at,
        committer=settings.committer,
        successors=_successors(model, store),
    )


def _audit_head(store: Store) -> AuditHead:
    try:
        return head(store)
    except (Unauthentic, ValidationError) as error:  # somebody may put it right
        raise WillPass(
            f"the newest entry of the audit log cannot be read: {error}. `trimtab audit` says what "
            "is wrong"
        ) from None


def _asked_by(model: ModelVersion, store: Store) -> dict[str, str]:
    """Who asked for a model past the gate, and why, for the commit's trailers."""
    if model.request is None:
        return {}
    entry = entry_of(model.request, store)
    if entry is None or digest(entry) != model.request_digest:
        raise WillPass(
            f"v{model.version} names entry {model.request} of the audit log, and this entry is "
            "missing or was replaced; restore the store from a backup"
        )
    asked = {
        "Trimtab-Asked-By": f"{_quoted(entry.operator)} ({entry.key})",
        "Trimtab-Because": _quoted(entry.because),
        "Trimtab-Audit": head_at(entry).in_words(),
    }
    return {name: value for name, value in asked.items() if value}


def _quoted(text: str) -> str:
    """The text on one line. A host would tell whom it names, and close an issue that it fixes."""
    return without_addresses(without_markup(" ".join(printable(text).split())))


def _successors(model: ModelVersion, store: Store) -> dict[str, str]:
    """The tags of the models promoted since -> their runs."""
    query = {
        "pipeline": model.pipeline,
        "decision": "promoted",
        "version": {"$gt": model.version},
    }
    later = store.find(ModelVersion, query)
    return {model_tag(each.pipeline, each.version): each.trace_id for each in later}


def _deed(model: ModelVersion) -> str:
    if model.restores:
        return f"Restore {model.pipeline} v{model.restores} as v{model.version}"
    return f"Publish {model.pipeline} v{model.version}"


def report_details(report: DriftReport | None, store: Store) -> bytes | None:
    """The whole drift report as JSON; None if nothing was compared, or it is no report of ours.

    It is not sealed, so only what the report's own model lets through is published.

    Raises:
        WillNotPass: it is no longer kept, or not what it was.
    """
    if report is None or report.details is None:
        return None
    packed = store.blob(report.details)
    try:
        return read_report(packed).model_dump_json().encode()
    except WillNotPass as error:
        log.warning("the drift report is published in short", reason=str(error))
        return None


def few_words(model: ModelVersion, report: DriftReport | None) -> str:
    """Why the model was trained, for a commit's subject."""
    match model.lineage.get("reason"):
        case "first_model":
            return "the first model"
        case "reference_set":
            return "a reference was set"
        case "rollback":
            return "a person rolled back"
        case "performance":
            return "the champion has become worse"
    if report is None or report.drift_score is None:
        return "the data has drifted"
    if report.p is not None:
        return f"drift, {p_equals(report.p)}"
    return f"drift {report.drift_score:.3f} over {measured(report.threshold)}"


def metrics_line(model: ModelVersion) -> str:
    """The model's metrics, and those of the champion that it beat on the same rows, on one line."""
    champion = (not model.restores and model.metrics.get("champion")) or {}
    return ", ".join(
        f"{key} {measured(model.metrics[key])}"
        + (f" (before: {measured(champion[key])})" if champion.get(key) is not None else "")
        for key in METRICS
        if model.metrics.get(key) is not None
    )


def commit_url(repository: str, commit: str) -> str | None:
    """Where a person can look at a commit on GitHub; none for another host."""
    parts = urlsplit(repository)
    owner, _, name = parts.path.strip("/").removesuffix(".git").partition("/")
    if parts.scheme != "https" or parts.hostname != "github.com" or not name or "/" in name:
        return None
    return f"https://github.com/{owner}/{name}/commit/{commit}"
