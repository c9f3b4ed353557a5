"""The terminal's view of a running system: a line for each event, and what is in hand below."""

from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from rich.padding import Padding
from rich.progress import Progress, SpinnerColumn, TaskID, TimeElapsedColumn
from rich.table import Table

from services.cli.journal import Line
from services.cli.literal import Console, Description, Text

STAGE_STYLES: Final = {
    "ingest": "cyan",
    "drift": "magenta",
    "trainer": "blue",
    "publisher": "green",
    "notifier": "white",
}

_INDENT: Final = 11


class LiveView:
    """Lines that stay, and a few moving ones under them while something is going on."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress = Progress(
            SpinnerColumn(),
            Description(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._rows: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def step(self, text: str) -> None:
        """Show the one thing that is going on."""
        if text not in self._rows and not self.console.is_terminal:
            self.console.print(f"… {text}", style="dim")
        self.going_on({text: text})

    def going_on(self, activities: Mapping[str, str]) -> None:
        """Show what is going on now: key -> words; each with the time that it has taken."""
        for key in self._rows.keys() - activities.keys():
            self._progress.remove_task(self._rows.pop(key))
        for key in activities.keys() - self._rows.keys():
            self._rows[key] = self._progress.add_task(activities[key], total=None)

    def say(self, line: Line) -> None:
        """Print one event."""
        said = Table.grid(padding=(0, 2, 0, 0))
        said.add_column(width=_INDENT - 2, justify="right")
        said.add_column(overflow="fold")
        stage = Text(line.stage, STAGE_STYLES.get(line.stage, "white"))
        said.add_row(stage, Text(line.text, line.style))
        self.console.print(said)
        if line.detail:
            self.console.print(
                Padding(Text(line.detail, style="dim"), (0, 0, 0, _INDENT), expand=False)
            )
