"""The handler: a promoted model becomes one commit on the model repository."""

import posixpath
from urllib.parse import urlsplit

from services.publisher.bundle import bundle
from services.publisher.repository import Commit, ModelRepository
from shared.artifacts import TamperedArtifact, verify
from shared.events import ModelPromoted, ModelPublished, caused_fields
from shared.failures import NotYet, WillNotPass
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline
from shared.records import DriftReport, ModelVersion, Publication
from shared.settings import Settings
from shared.store import Store


def publish_model(
    event: ModelPromoted, pipeline: Pipeline, store: Store, settings: Settings
) -> Outcome:
    """Commit and push a model's files, unless its commit is on the branch already.

    Raises:
        NotYet: the champion before it is not published; commits are in the order of promotions.
        WillPass: the repository is out of reach.
        WillNotPass: the model is not what was sealed, a file is too large, or the push is refused.
    """
    _require_earlier_published(event, store)
    model = _model(event, store)
    files = bundle(
        model,
        _sealed_bytes(model, store, settings),
        store.get(DriftReport, model.drift_report),
        pipeline,
    )
    repository = _repository(pipeline, settings)
    commit = _commit(event, model, files, pipeline)
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
        already_there=published.already_there,
    )
    told = ModelPublished(
        **caused_fields(event, "publisher", ModelPublished),
        model_version=model.version,
        commit=published.commit,
        branch=pipeline.publish.branch,
        url=url,
    )
    return Outcome(publication, (told,))


def _require_earlier_published(event: ModelPromoted, store: Store) -> None:
    before = store.newest(
        ModelVersion,
        {
            "pipeline": event.pipeline,
            "decision": "promoted",
            "version": {"$lt": event.model_version},
        },
        "version",
    )
    for promoted in store.events_of(before) if before else ():
        if pending := store.first_unsettled("publisher", promoted, frozenset({"publisher"})):
            raise NotYet(pending)


def _model(event: ModelPromoted, store: Store) -> ModelVersion:
    query = {"pipeline": event.pipeline, "version": event.model_version}
    model = store.newest(ModelVersion, query, "version")
    if model is None:
        raise WillNotPass(f"the store has no model v{event.model_version} of {event.pipeline}")
    return model


def _sealed_bytes(model: ModelVersion, store: Store, settings: Settings) -> bytes:
    """The model's bytes; with the signing key at hand, only if they are those that were sealed."""
    data = store.blob(model.model)
    if settings.model_signing_key:
        try:
            verify(data, digest=model.model, sealed=model.seal, key=settings.model_signing_key)
        except TamperedArtifact as error:
            raise WillNotPass(f"model v{model.version} is not published: {error}") from None
    return data


def _repository(pipeline: Pipeline, settings: Settings) -> ModelRepository:
    if not settings.model_repository:
        raise WillNotPass("MODEL_REPOSITORY is not set: there is nowhere to publish to")
    return ModelRepository(
        settings.model_repository,
        pipeline.publish.branch,
        settings.git_cache,
        settings.github_username,
        settings.github_token,
    )


def _commit(
    event: ModelPromoted, model: ModelVersion, files: dict[str, bytes], pipeline: Pipeline
) -> Commit:
    name = f"{model.pipeline}/v{model.version}"
    trailers = f"Trimtab-Model: {name}\nTrimtab-Run: {model.trace_id}"
    folder = pipeline.publish.directory
    return Commit(
        files={posixpath.normpath(posixpath.join(folder, file)): files[file] for file in files},
        message=f"Publish {model.pipeline} v{model.version}\n\n{model.reason}\n\n{trailers}\n",
        identity=trailers.partition("\n")[2],
        tag=name,
        at=event.occurred_at,
    )


def commit_url(repository: str, commit: str) -> str | None:
    """Where a person can look at a commit on GitHub; none for another host."""
    parts = urlsplit(repository)
    if parts.scheme != "https" or parts.hostname != "github.com":
        return None
    return f"https://github.com/{parts.path.strip('/').removesuffix('.git')}/commit/{commit}"
