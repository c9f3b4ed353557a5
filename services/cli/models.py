"""`trimtab models` and `trimtab rollback`: the versions of a model, and the way back to one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from services.cli.terminal import (
    DEFAULT_HOME,
    AsJson,
    Because,
    Home,
    Limit,
    NoWait,
    PipelineName,
    choose_pipeline,
    connect,
    console,
    print_json,
    require_no_options,
)
from shared.failures import WillNotPass

if TYPE_CHECKING:
    from shared.records import ModelVersion
    from shared.store import Store

NOT_THE_SAME: Final = 1
"""The exit code of `models reproduce` when the bytes differ."""

models_app = typer.Typer()
Version = Annotated[
    int, typer.Argument(min=1, metavar="VERSION", help="Such as 3.", show_default=False)
]


@models_app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    pipeline: PipelineName = None,
    limit: Limit = 24,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """The model versions, with their metrics against the champion's, and why each was decided."""
    if context.invoked_subcommand:
        require_no_options(context)
        return
    from services.cli.models_view import models_table
    from services.cli.summary import commits_table
    from shared.records import ModelVersion

    with connect(home) as resources:
        name = choose_pipeline(resources.pipelines, pipeline)
        if as_json:
            versions = resources.store.find(
                ModelVersion, {"pipeline": name}, newest_by="version", limit=limit
            )
            print_json([version.model_dump(mode="json") for version in versions])
            return
        training = resources.pipelines[name].training
        versions_made = models_table(resources.store, name, training, limit)
        console.print(versions_made, "", commits_table(resources.store, name))


@models_app.command()
def show(
    version: Version,
    pipeline: PipelineName = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """All figures of one version, what the gate asked of it, and where its commit is."""
    from services.cli.models_view import model_sheet, state_of
    from shared.records import Publication

    with connect(home) as resources:
        store = resources.store
        model = _find(store, choose_pipeline(resources.pipelines, pipeline), version)
        state = state_of(model, store.champion(model.pipeline))
        published = {"pipeline": model.pipeline, "model_version": version}
        publication = store.newest(Publication, published, "recorded_at")
    if as_json:
        commit = publication and publication.model_dump(mode="json")
        print_json(model.model_dump(mode="json") | {"state": state, "publication": commit})
    else:
        console.print(model_sheet(model, state, publication))


@models_app.command()
def compare(
    first: Version,
    second: Version,
    pipeline: PipelineName = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Two versions side by side, and whether they were judged on the same rows."""
    from services.cli.model_comparison import compare as compared
    from services.cli.models_view import comparison_sheet

    with connect(home) as resources:
        store, name = resources.store, choose_pipeline(resources.pipelines, pipeline)
        found = compared(_find(store, name, first), _find(store, name, second), store)
    if as_json:
        print_json(found.as_json())
    else:
        console.print(comparison_sheet(found))


@models_app.command()
def load(
    version: Version,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    pipeline: PipelineName = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Write a version's model.joblib, once its bytes have the recorded hash and seal."""
    from services.cli.model_files import write_model

    with connect(home) as resources:
        model = _find(resources.store, choose_pipeline(resources.pipelines, pipeline), version)
        sealed = write_model(model, output, resources.store, resources.settings)
    if as_json:
        print_json({"file": output, "sha256": model.model, "bytes": model.model_bytes} | sealed)
        return
    checked = "SHA-256 and seal" if sealed["seal_verified"] else "SHA-256"
    console.print(f"{output}: {model.model_bytes:,} bytes, {checked} as recorded")


@models_app.command()
def reproduce(
    version: Version,
    pipeline: PipelineName = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Train a version again from its record. Exits with 1 if the bytes are not the same."""
    from dataclasses import asdict

    from services.trainer.reproduction import reproduce as train_again

    with connect(home) as resources:
        name = choose_pipeline(resources.pipelines, pipeline)
        model = _find(resources.store, name, version)
        with console.status(f"training v{version} again"):
            made = train_again(
                model, resources.pipelines[name], resources.store, resources.settings
            )
    if as_json:
        print_json(asdict(made) | {"same": made.same})
    else:
        verdict = "the same bytes" if made.same else "other bytes"
        console.print(f"v{version} of {name} trained again: {verdict} (SHA-256)")
        console.print(f"  recorded  {made.expected_sha256}")
        console.print(f"  now       {made.sha256}")
        for library, (then, now) in made.different_versions.items():
            console.print(f"  {library}: {then} then, {now} now")
    if not made.same:
        raise typer.Exit(NOT_THE_SAME)


def rollback(
    version: Version,
    because: Because,
    pipeline: PipelineName = None,
    no_wait: NoWait = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Make an earlier champion the champion again, with its files and its reference.

    Exits with 5 if the rollback is stored but not done: after 300 s, or because no worker is
    running.
    """
    from dataclasses import asdict

    from services.cli.asking import Asking, require_reason
    from services.cli.rollback import in_words, roll_back
    from services.cli.waiting import LONGEST_WAIT_SECONDS, NOT_DONE

    require_reason(because)
    with connect(home) as resources:
        name = choose_pipeline(resources.pipelines, pipeline)
        asking = Asking(resources)
        with console.status(f"rolling back to v{version}"):
            seconds = 0.0 if no_wait else LONGEST_WAIT_SECONDS
            reached = roll_back(asking, name, version, because, wait_seconds=seconds)
    if as_json:
        print_json(asdict(reached))
    else:
        console.print(in_words(reached), soft_wrap=True)
    if reached.state in ("stored", "under way") and not no_wait:
        raise typer.Exit(NOT_DONE)


def _find(store: "Store", pipeline: str, version: int) -> "ModelVersion":
    from shared.records import ModelVersion

    query = {"pipeline": pipeline, "version": version}
    if model := store.newest(ModelVersion, query, "version"):
        return model
    raise WillNotPass(f"{pipeline} has no model v{version}; `trimtab models` lists those it has")
