"""Names that Git takes: branches by its own judgement, committers as it writes them down."""

import os
import shutil
import subprocess
from functools import lru_cache
from typing import Final

_LONGEST: Final = 200
_SECONDS: Final = 10
_BESIDE_A_NAME: Final = frozenset(" .,:;\"\\'")
"""What Git takes off both ends of a name."""


@lru_cache(maxsize=1024)
def is_branch_name(name: str) -> bool:
    """Whether `git check-ref-format --branch` takes a name, of at most 200 bytes, as it stands.

    Where there is no Git, as in the images of workers that do not publish, every name passes: the
    publisher, which has Git, does not start with a wrong one.
    """
    git = shutil.which("git")
    if git is None:
        return True
    if "\0" in name or len(name.encode("utf-8", "surrogatepass")) > _LONGEST:
        return False  # no argument of a program holds the one, no host keeps the other
    done = subprocess.run(
        [git, "check-ref-format", "--branch", name.encode("utf-8", "surrogatepass")],
        # Without a repository nothing stands for another branch, as @{-1} would.
        env={"PATH": os.environ.get("PATH", ""), "GIT_DIR": os.devnull},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_SECONDS,
        check=False,
    )
    return done.returncode == 0 and done.stdout.rstrip(b"\n").decode("utf-8", "replace") == name


def model_tag(pipeline: str, version: int) -> str:
    """The tag of a model on the model repository, and its name in a commit's trailer."""
    return f"{pipeline}/v{version}"


def require_committer(name: str) -> str:
    """The name, or address, of a committer, if Git writes it down as it stands.

    Raises:
        ValueError: it does not; the text says why.
    """
    if not name.isprintable() or "<" in name or ">" in name:
        raise ValueError("may not hold a line break, another control character, < or >")
    if not name or len(name.encode()) > _LONGEST:
        raise ValueError(f"may have 1 to {_LONGEST} bytes")
    if {name[0], name[-1]} & _BESIDE_A_NAME:
        raise ValueError("may not begin or end with a space or one of . , : ; \" \\ '")
    return name
