"""`python -m tests.fuzz.coverage_guided`: readers of bytes, with what leads to code not run yet.

Atheris (libFuzzer for Python) begins with the examples, keeps each input that runs another line or
branch of ours, and bends those on. It is for readers that are Python: into Arrow, Pydantic and Git
it cannot see. Each reader has a process of its own, since libFuzzer ends its process.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOST_MEMORY_MIB: Final = 1_000
"""With Atheris and everything else that is loaded."""
LONGEST_INPUT: Final = 8_192
INSTRUMENTED: Final = ["shared", "services", "yaml", "csv"]


@dataclass(frozen=True)
class Reader:
    """A reader of bytes, and what Atheris begins with."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


def readers() -> dict[str, Reader]:
    """By name. Their modules are imported here, so that Atheris can have them instrumented."""
    from services.drift.tables.files import open_table
    from shared.events import STAGES, dump_event
    from shared.tables.content import UnreadableTable
    from tests.fuzz import inputs
    from tests.fuzz.targets import TARGETS, in_time, says_something
    from tests.security.foreign_messages import message
    from tests.security.test_foreign_messages import UNKNOWN_PIPELINE

    reads = {target.name: target.read for target in TARGETS}
    suffixes = (".csv", ".json", ".jsonl")

    def table_of_file(given: tuple[str, bytes]) -> None:
        """Without the comparison of `trimtab check`, which takes much longer."""
        with in_time(), tempfile.NamedTemporaryFile(suffix=given[0]) as file:
            Path(file.name).write_bytes(given[1])
            try:
                open_table(Path(file.name)).table()
            except UnreadableTable as error:
                says_something(error)

    tables = _numbered([inputs.CSV_EXAMPLE], [inputs.LIST_EXAMPLE], [inputs.LINES_EXAMPLE])
    events = {stage: dump_event(event) for stage, event in UNKNOWN_PIPELINE.items()}
    messages = _numbered(
        *(
            [message(stage, events[stage]["type"], events[stage]), *inputs.foreign_to(stage)]
            for stage in STAGES
        )
    )
    feed = (inputs.JSON_EXAMPLE, inputs.LIST_EXAMPLE)
    return {
        "feed, JSON": Reader(reads["feed, JSON"], feed),
        "feed, CSV": Reader(reads["feed, CSV"], (inputs.CSV_EXAMPLE,)),
        "file to ingest": Reader(_first_chooses(suffixes, reads["file to ingest"]), tables),
        "file to check": Reader(_first_chooses(suffixes, table_of_file), tables),
        "pipeline file": Reader(reads["pipeline file"], tuple(inputs.PIPELINE_EXAMPLES)),
        "message": Reader(_first_chooses(STAGES, reads["message"]), messages),
    }


def _numbered(*groups: list[bytes]) -> tuple[bytes, ...]:
    """All of them, behind a byte that is their group's number."""
    return tuple(bytes([n]) + each for n, group in enumerate(groups) for each in group)


def _first_chooses(
    kinds: tuple[str, ...], read: Callable[[tuple[str, bytes]], object]
) -> Callable[[bytes], object]:
    """A reader of bytes of which the first chooses a kind."""
    return lambda given: read((kinds[given[0] % len(kinds)], given[1:])) if given else None


def main() -> int:
    """Throw at every reader for so long; 0 if every input had its outcome."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.coverage_guided")
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{'reader':16} {'cases':>9} {'kept':>6}  what was found")  # noqa: T201
    found = [_found(name, options.seconds, options.seed) for name in readers()]
    return 1 if any(found) else 0


def _found(name: str, seconds: int, seed: int) -> bool:
    """Throw in a process of its own, and print a line; whether an input had no outcome."""
    with tempfile.TemporaryDirectory() as folder:
        flags = (f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={folder}/bad-")
        code = "import sys; from tests.fuzz.coverage_guided import throw; throw(*sys.argv[1:])"
        command = [sys.executable, "-c", code, name, folder, *flags]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        bad = [path.read_bytes() for path in Path(folder).glob("bad-*")]
    cases = re.findall(r"^#(\d+)\s", done.stderr, re.MULTILINE) or ["0"]
    kept = re.findall(r" corp: (\d+)/", done.stderr) or ["0"]
    failed = done.returncode != 0
    summary = re.findall(r"^SUMMARY: .*", done.stderr, re.MULTILINE)
    outcome = f"{bad} {summary or done.stderr[-2_000:]}" if failed else "nothing"
    print(f"{name:16} {int(cases[-1]):9,} {int(kept[-1]):6,}  {outcome}", flush=True)  # noqa: T201
    return failed


def throw(name: str, folder: str, *flags: str) -> None:
    """Hand this process to libFuzzer, which ends it."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        reader = readers()[name]
    corpus = Path(folder, "corpus")
    corpus.mkdir()
    for number, example in enumerate(reader.seeds):
        (corpus / f"{number}").write_bytes(example)
    limits = (f"-max_len={LONGEST_INPUT}", f"-rss_limit_mb={MOST_MEMORY_MIB}", "-timeout=20")
    atheris.Setup([sys.argv[0], *flags, *limits, str(corpus)], reader.read)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
