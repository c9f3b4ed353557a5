"""`trimtab history`: the batches and what their checks found, and one event's whole chain."""

from typing import Annotated

import typer

from services.cli.rows_set_aside import rows_set_aside
from services.cli.terminal import (
    DEFAULT_HOME,
    AsJson,
    Home,
    Limit,
    PipelineName,
    choose_pipeline,
    connect,
    console,
    print_json,
    require_no_options,
)

history_app = typer.Typer()
history_app.command("rows-set-aside")(rows_set_aside)


@history_app.callback(invoke_without_command=True)
def history(
    context: typer.Context,
    pipeline: PipelineName = None,
    limit: Limit = 24,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """The batches with what their checks found, and the references that were replaced."""
    if context.invoked_subcommand:
        require_no_options(context)
        return
    from services.cli.summary import batches_table, references_table
    from shared.records import DriftReport, RetiredReference

    with connect(home) as resources:
        name = choose_pipeline(resources.pipelines, pipeline)
        if as_json:
            query = {"pipeline": name}
            store = resources.store
            reports = store.find(DriftReport, query, newest_by="sequence", limit=limit)
            retired = store.find(RetiredReference, query, newest_by="version", limit=limit)
            print_json(
                {
                    "drift_reports": [report.model_dump(mode="json") for report in reports],
                    "reference_data_history": [old.model_dump(mode="json") for old in retired],
                }
            )
            return
        batches = batches_table(resources.store, name, limit)
        console.print(batches, "", references_table(resources.store, name, limit))


@history_app.command()
def show(
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="batch:N, model:N, a record's id, or the first six or more digits of a trace id, "
            "an event id or a commit.",
            show_default=False,
        ),
    ],
    pipeline: PipelineName = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """All that an event led to, and what led to it: from the feed's answer to the messages."""
    from services.cli.chain import as_json as chain_as_json
    from services.cli.chain import chain_of
    from services.cli.chain_id import find_trace
    from services.cli.chain_view import chain_tree

    with connect(home) as resources:
        chain = chain_of(resources, find_trace(resources, wanted, pipeline))
        if as_json:
            print_json(chain_as_json(chain))
        else:
            console.print(chain_tree(chain))
