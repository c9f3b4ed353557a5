"""Bare repositories to publish to, and a look at what is on them."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Another",
    "GIT_AUTHOR_EMAIL": "another@localhost",
    "GIT_COMMITTER_NAME": "Another",
    "GIT_COMMITTER_EMAIL": "another@localhost",
}

ANOTHER_COMMIT = """
    unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
    export GIT_AUTHOR_NAME=Another GIT_AUTHOR_EMAIL=a@localhost
    export GIT_COMMITTER_NAME=Another GIT_COMMITTER_EMAIL=a@localhost
    head=$(git rev-parse refs/heads/main)
    made=$(echo "Another $(date +%N)" | git commit-tree "$head^{tree}" -p "$head")
    git update-ref refs/heads/main "$made"
"""
"""What a hook runs to be another writer who is faster than the push under way."""


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """What Git prints, run by another person than the publisher."""
    command = ["git", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=_ENVIRONMENT, input=stdin, capture_output=True, check=True
    )
    return done.stdout


@dataclass(frozen=True)
class Bare:
    """A bare repository on disk."""

    path: Path

    @classmethod
    def make(cls, path: Path) -> "Bare":
        """An empty one."""
        path.mkdir()
        git(path, "init", "--quiet", "--bare", "--initial-branch=main", ".")
        return cls(path)

    def git(self, *arguments: str) -> str:
        """What Git says about it."""
        return git(self.path, *arguments).decode().strip()

    def refs(self) -> dict[str, str]:
        """Ref -> commit, which may be behind a tag's own object."""
        commit = "%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)"
        rows = self.git("for-each-ref", f"--format=%(refname) {commit}").splitlines()
        return {ref: commit for ref, _, commit in (row.partition(" ") for row in rows)}

    def subjects(self, branch: str = "main") -> list[str]:
        """The subjects of a branch's commits, newest first."""
        return self.git("log", "--format=%s", branch).splitlines()

    def files(self, branch: str = "main") -> dict[str, bytes]:
        """Path -> content of the files at a branch's head."""
        paths = self.git("ls-tree", "-r", "--name-only", branch).splitlines()
        return {path: git(self.path, "cat-file", "blob", f"{branch}:{path}") for path in paths}

    def commit(
        self, files: dict[str, bytes], branch: str = "main", times: int = 1, message: str = "Other"
    ) -> None:
        """Another writer's commits."""
        stream = []
        for number in range(times):
            at = "Another <another@localhost> 1700000000 +0000"
            stream.append(f"commit refs/heads/{branch}\ncommitter {at}\n".encode())
            stream.append(b"data %d\n%s\n" % (len(message.encode()), message.encode()))
            if number == 0 and f"refs/heads/{branch}" in self.refs():
                stream.append(f"from refs/heads/{branch}^0\n".encode())
            for path, content in files.items():
                stream.append(f"M 100644 inline {path}\n".encode())
                stream.append(b"data %d\n%s\n" % (len(content), content))
        git(self.path, "fast-import", "--quiet", "--date-format=raw", stdin=b"".join(stream))

    def hook(self, name: str, script: str) -> None:
        """Have the repository run a script at each push."""
        path = self.path / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
