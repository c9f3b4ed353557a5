"""An environment of its own for each peer, made once and kept."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

INSTALL_SECONDS: Final = 900


class NotInstalled(RuntimeError):
    """A peer cannot be installed; the text says why."""


def python_with(requirements: Path, folder: Path) -> Path:
    """The interpreter of an environment with pinned requirements.

    It is made with uv if that is there, else with venv and pip, in a subfolder named by what the
    requirements say, and used again while they do not change.

    Raises:
        NotInstalled: they cannot be installed.
    """
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    environment = folder / f"{requirements.stem}-{digest}"
    python, complete = environment / "bin" / "python", environment / "complete"
    if complete.exists():
        return python
    shutil.rmtree(environment, ignore_errors=True)
    for command in _commands(environment, python, requirements):
        _run(command)
    complete.touch()
    return python


def _commands(environment: Path, python: Path, requirements: Path) -> list[list[str]]:
    if uv := shutil.which("uv"):
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(environment)],
            [uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(requirements)],
        ]
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    return [
        [sys.executable, "-m", "venv", str(environment)],
        [*pip, "install", "-r", str(requirements)],
    ]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"not installed within {INSTALL_SECONDS} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line or "error" in line]
        raise NotInstalled(lines[0] if lines else f"{command[0]} ended with {done.returncode}")
