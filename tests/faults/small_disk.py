"""A small file system that a fault can fill. Mounting needs rights that not every machine gives."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

SIZE = "600m"
"""MongoDB sets 100 MB and more aside for its journal."""


@dataclass(frozen=True)
class SmallDisk:
    """A file system in memory, mounted at a folder."""

    folder: Path

    @classmethod
    def mounted(cls, folder: Path) -> "SmallDisk | None":
        """Mount one; none where that is not allowed."""
        folder.mkdir(parents=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)],
            capture_output=True,
            timeout=10,
            check=False,
        )
        return cls(folder) if done.returncode == 0 else None

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Leave not a byte."""
        piece = bytes(1 << 20)
        try:
            with self._ballast.open("ab", buffering=0) as ballast:
                while ballast.write(piece) == len(piece):
                    pass
        except OSError:  # it is full
            return

    def clear(self) -> None:
        """Give the space back."""
        self._ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Let it go, with what is on it."""
        subprocess.run(["umount", "--lazy", str(self.folder)], timeout=10, check=False)
