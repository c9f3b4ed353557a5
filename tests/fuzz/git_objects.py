"""Git's objects and refs as files: also those that `git` itself would not write."""

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = b"40000"
FILE: Final = b"100644"


@dataclass(frozen=True)
class Objects:
    """A bare repository's objects and refs, none of them packed."""

    repository: Path

    def write(self, kind: bytes, content: bytes) -> str:
        """Keep an object; returns its name."""
        whole = b"%s %d\0%s" % (kind, len(content), content)
        name = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
        path = self._path(name)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(zlib.compress(whole, 1))
        return name

    def read(self, name: str) -> bytes:
        """The content of an object."""
        return zlib.decompress(self._path(name).read_bytes()).partition(b"\0")[2]

    def _path(self, name: str) -> Path:
        return self.repository / "objects" / name[:2] / name[2:]

    def write_tree(self, entries: Iterable[tuple[bytes, bytes, str]]) -> str:
        """Keep a folder of (mode, name, object), in the order in which Git wants it."""
        ordered = sorted(entries, key=lambda entry: entry[1] + b"/" * (entry[0] == FOLDER))
        return self.write(
            b"tree",
            b"".join(
                b"%s %s\0%s" % (mode, name, bytes.fromhex(target)) for mode, name, target in ordered
            ),
        )

    def files(self, tree: str, folder: bytes = b"") -> list[tuple[bytes, bytes, str]]:
        """(path, mode, object) of everything in a tree and the folders in it, sorted."""
        found = []
        for mode, name, target in self._entries(tree):
            if mode == FOLDER:
                found += self.files(target, folder + name + b"/")
            else:
                found.append((folder + name, mode, target))
        return sorted(found)

    def _entries(self, tree: str) -> Iterable[tuple[bytes, bytes, str]]:
        rest = self.read(tree)
        while rest:
            about, _, rest = rest.partition(b"\0")
            mode, _, name = about.partition(b" ")
            yield mode, name, rest[:20].hex()
            rest = rest[20:]

    def write_ref(self, name: bytes, target: str) -> bool:
        """Let a ref stand on an object; False if another ref, or the disk, has no place for it."""
        path = self.repository / name.decode("utf-8", "surrogateescape")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{target}\n")
        except OSError:
            return False
        return True

    def refs(self) -> dict[str, str]:
        """Ref -> object."""
        found = (path for path in (self.repository / "refs").rglob("*") if path.is_file())
        return {
            path.relative_to(self.repository).as_posix(): path.read_text().strip() for path in found
        }
