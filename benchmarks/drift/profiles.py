"""What a profile costs: its fit, its size, and the memory of a check of a large file with it."""

import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.drift.tables import SEGMENT, Shape, table, write, write_by_groups
from services.drift import Profile

SEED: Final = 5
GROUP_ROWS: Final = 1_000_000
"""Of a row group of the large file: a common size of writers of Parquet."""
REFERENCE_ROWS: Final = 10_000

_MEGABYTE: Final = 1e6
_RSS_UNIT: Final = 1024
"""Linux tells the memory in kibibytes."""


@dataclass(frozen=True)
class Case:
    """A reference to fit."""

    rows: int
    shape: Shape
    segmented: bool = False

    @property
    def title(self) -> str:
        segments = f", {self.shape.segments} segments" if self.segmented else ""
        return f"{self.rows:,} rows × {self.shape.columns} columns{segments}"


CASES: Final = (
    Case(10_000, Shape(numbers=10)),
    Case(1_000_000, Shape()),
    Case(1_000_000, Shape(), segmented=True),
    Case(10_000, Shape(numbers=49, segments=20, other_categories=()), segmented=True),
    Case(200_000, Shape(numbers=49, segments=20, other_categories=()), segmented=True),
)


@dataclass(frozen=True)
class Fit:
    """What a fit took, in a process of its own."""

    title: str
    fit_seconds: float
    """Without the simulation of the null distribution."""
    simulation_seconds: float
    load_seconds: float
    """From the stored bytes to a profile."""
    cells: int
    """Number and category cells; the missing values of each and the pairs are not counted."""
    stored_bytes: int
    peak_megabytes: float


def fits() -> list[Fit]:
    """Fit all cases."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        return [processes.submit(fit, case).result() for case in CASES]


def fit(case: Case) -> Fit:
    """Fit a case, store the profile and read it again."""
    reference = table(case.rows, np.random.default_rng(SEED), case.shape)
    times = [time.perf_counter()]
    profile = Profile.fit(reference, segment=SEGMENT if case.segmented else None)
    times.append(time.perf_counter())
    stored = profile.complete().to_bytes()
    times.append(time.perf_counter())
    Profile.from_bytes(stored)
    times.append(time.perf_counter())
    fitted, simulated, loaded = np.diff(times).tolist()
    layout = profile.binning.layout
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT / _MEGABYTE
    cells = layout.numbers + layout.categories
    return Fit(case.title, fitted, simulated, loaded, cells, len(stored), peak)


def fits_markdown(found: list[Fit]) -> str:
    """The fits as a table."""
    head = [
        "| reference | fit, s | of it simulation, s | load, s | cells | stored, kB | bytes a cell "
        "| peak memory, MB |",
        "| --- |" + " ---: |" * 7,
    ]
    rows = [
        f"| {one.title} | {one.fit_seconds + one.simulation_seconds:.1f} "
        f"| {one.simulation_seconds:.1f} | {one.load_seconds:.3f} | {one.cells} "
        f"| {one.stored_bytes / 1e3:.0f} | {one.stored_bytes / one.cells:.0f} "
        f"| {one.peak_megabytes:.0f} |"
        for one in found
    ]
    return "\n".join([*head, *rows])


@dataclass(frozen=True)
class FileCheck:
    """A run of `trimtab check` with a stored profile on a Parquet file."""

    rows: int
    segmented: bool
    file_megabytes: float
    seconds: float
    peak_megabytes: float


def file_checks(rows: int, folder: Path) -> list[FileCheck]:
    """Check a file of one row group and one of many, without and with segments."""
    reference = table(REFERENCE_ROWS, np.random.default_rng(SEED), Shape())
    profiles = {}
    for segmented in (False, True):
        profiles[segmented] = folder / f"profile-{segmented}"
        Profile.fit(reference, segment=SEGMENT if segmented else None).save(profiles[segmented])
    small = write(folder / "small.parquet", min(rows, GROUP_ROWS), SEED + 1, Shape())
    large = write_by_groups(folder / "large.parquet", rows, GROUP_ROWS, SEED + 1, Shape())
    return [
        _file_check(number, segmented, path, profile)
        for number, path in ((min(rows, GROUP_ROWS), small), (rows, large))
        for segmented, profile in profiles.items()
    ]


def _file_check(rows: int, segmented: bool, path: Path, profile: Path) -> FileCheck:
    command = [str(Path(sys.executable).with_name("trimtab")), "check", "--json"]
    started = time.perf_counter()
    process = subprocess.Popen([*command, profile, path], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"trimtab check ended with {process.returncode}")
    peak = usage.ru_maxrss * _RSS_UNIT / _MEGABYTE
    return FileCheck(rows, segmented, path.stat().st_size / _MEGABYTE, seconds, peak)


def file_checks_markdown(found: list[FileCheck]) -> str:
    """The checks of files as a table."""
    head = [
        "| Parquet file | segments | file, MB | seconds | peak memory, MB |",
        "| --- |" + " ---: |" * 4,
    ]
    rows = [
        f"| {one.rows:,} rows | {Shape().segments if one.segmented else 0} "
        f"| {one.file_megabytes:.0f} | {one.seconds:.1f} | {one.peak_megabytes:.0f} |"
        for one in found
    ]
    return "\n".join([*head, *rows])
