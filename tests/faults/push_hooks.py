"""What happens to the next pushes to the model repository: git's own hooks, one deed a push."""

from contextlib import suppress
from itertools import count
from pathlib import Path

_HOOK = """#!/bin/sh
armed="$GIT_DIR/armed/$(basename "$0")"
next=$(ls "$armed" | head -n 1)
[ -z "$next" ] || { . "$armed/$next"; }
"""
_MET = """rm -f "$armed/$next"
"""
DEEDS = {
    "rejects": ("pre-receive", "exit 1"),
    "slow": ("pre-receive", "sleep 2"),
    "moved": (
        "pre-receive",
        """unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
if git rev-parse -q --verify main > /dev/null; then
    other=$(git -c user.name=Somebody -c user.email=else@example.org \\
        commit-tree 'main^{tree}' -p main -m 'A note')
    git update-ref refs/heads/main "$other"
    echo "$other" >> "$GIT_DIR/others"
fi""",
    ),
    "pushed, publisher killed": ("post-receive", "kill -9 0"),
}
"""Deed -> the hook, and what it does. In `moved` somebody else's commit comes in between."""

_NUMBERS = count(1)


def install_hooks(repository: Path) -> None:
    """Let each push meet the next deed that is armed, once."""
    for hook in ("pre-receive", "post-receive"):
        (repository / "armed" / hook).mkdir(parents=True)
        path = repository / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(_HOOK)
        path.chmod(0o755)


def arm(repository: Path, deed: str) -> None:
    """Let the next push that has no other deed before it meet this one."""
    hook, commands = DEEDS[deed]
    with suppress(FileNotFoundError):  # the repository is out of reach just now
        path = repository / "armed" / hook / f"{next(_NUMBERS):04}"
        path.write_text(_MET + commands + "\n")


def disarm(repository: Path) -> int:
    """Forget every deed that no push has met; returns how many there were."""
    left = list((repository / "armed").glob("*/*"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def commits_of_others(repository: Path) -> list[str]:
    """The commits that came in between."""
    with suppress(FileNotFoundError):
        return (repository / "others").read_text().split()
    return []
