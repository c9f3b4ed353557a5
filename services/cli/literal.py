"""Rich without markup: what comes from data is shown letter by letter, and steers no terminal.

The commands use these classes in place of Rich's own, which the linter refuses.
"""

from typing import Any, Self, cast

from rich.console import Console as RichConsole
from rich.progress import ProgressColumn, Task
from rich.style import Style
from rich.text import Text as RichText

from shared.plain_text import visible


class Text(RichText):
    """Text whose control characters are written as their escapes."""

    def __init__(self, text: str = "", style: str | Style = "", **options: Any) -> None:
        super().__init__(visible(text), style, **options)

    def append(self, text: RichText | str, style: str | Style | None = None) -> RichText:
        """Add a text, or a string with a style."""
        return super().append(visible(text) if isinstance(text, str) else text, style)

    @classmethod
    def assemble(cls, *parts: str | RichText | tuple[str, str | Style], **options: Any) -> Self:
        """Texts and strings, these alone or with a style, one behind the other."""
        return cast("Self", super().assemble(*parts, **options))


class Console(RichConsole):
    """A console that shows each string as it is, wherever it stands: in a table, a tree, a line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> RichText:
        """A string as text."""
        return super().render_str(visible(text), **options)


class Description(ProgressColumn):
    """What is going on, beside its spinner or bar."""

    def render(self, task: Task) -> Text:
        """The task's description as it is."""
        return Text(task.description)
