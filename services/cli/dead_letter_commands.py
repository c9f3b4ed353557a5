"""`trimtab dead-letters`: the events that a stage gave up on, and what a person decides of them."""

from typing import Annotated

import typer

from services.cli.terminal import DEFAULT_HOME, AsJson, Because, Home, connect, console, print_json
from shared.failures import WillNotPass

letters_app = typer.Typer(help="Events that a stage gave up on.", no_args_is_help=True)


@letters_app.command("list")
def list_letters(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """The open dead letters, oldest first."""
    from services.cli.dead_letters import in_words, open_letters

    with connect(home) as resources:
        letters = open_letters(resources.store)
    if as_json:
        print_json([letter.model_dump(mode="json") for letter in letters])
    else:
        console.print(in_words(letters))


@letters_app.command("show")
def show_letter(letter: str, home: Home = DEFAULT_HOME) -> None:
    """One dead letter, whole."""
    from services.cli.dead_letters import find_letter

    with connect(home) as resources:
        print_json(find_letter(resources.store, letter).model_dump(mode="json"))


@letters_app.command("replay")
def replay_letter(
    letter: Annotated[str, typer.Argument(help="Its id, or 'all'.")],
    because: Because = "",
    home: Home = DEFAULT_HOME,
) -> None:
    """Send the event of a dead letter to its stage again."""
    from services.cli.asking import Asking
    from services.cli.dead_letters import find_letter, open_letters, replay

    with connect(home) as resources:
        chosen = (
            open_letters(resources.store)
            if letter == "all"
            else [find_letter(resources.store, letter)]
        )
        asking, refused = Asking(resources), 0
        for found in chosen:
            try:
                replay(asking, found, because)
            except WillNotPass as error:
                if letter != "all":
                    raise
                console.print(f"not sent: {error}")
                refused += 1
            else:
                console.print(f"sent again: {found.id}")
    if refused:
        raise typer.Exit(1)


@letters_app.command("dismiss")
def dismiss_letter(
    letter: Annotated[str, typer.Argument(help="Its id.")],
    because: Because,
    home: Home = DEFAULT_HOME,
) -> None:
    """Leave the event of a dead letter undone; it can still be replayed."""
    from services.cli.asking import Asking, require_reason
    from services.cli.dead_letters import dismiss, find_letter

    require_reason(because)
    with connect(home) as resources:
        found = find_letter(resources.store, letter)
        dismiss(Asking(resources), found, because)
    console.print(f"dismissed: {letter}")
