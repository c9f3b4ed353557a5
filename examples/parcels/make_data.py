"""Makes the example's CSV files, the same ones every time: `python examples/parcels/make_data.py`.

Three stretches of ordinary weeks, then the weeks before Christmas: parcels are heavier, go further
and over more stops, and Falke, until then the fastest carrier, is overloaded and comes late.
"""

import csv
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

FOLDER = Path(__file__).parent
COLUMNS = (
    *("parcel", "handed_over", "carrier", "service", "weight_kg", "distance_km", "stops"),
    "outcome",
)
SEED = 11
UNKNOWN_WEIGHT_SHARE = 0.02


@dataclass(frozen=True)
class Stretch:
    """The parcels of some weeks."""

    file: str
    first_day: datetime
    days: int
    parcels: int
    christmas: bool = False


STRETCHES = (
    Stretch("reference.csv", datetime(2024, 9, 2), days=28, parcels=800),  # noqa: DTZ001 - local
    Stretch("batches/1.csv", datetime(2024, 9, 30), days=14, parcels=400),  # noqa: DTZ001
    Stretch("batches/2.csv", datetime(2024, 10, 14), days=14, parcels=400),  # noqa: DTZ001
    Stretch("batches/3.csv", datetime(2024, 12, 2), days=14, parcels=400, christmas=True),  # noqa: DTZ001
)

# carrier: how much more often than the others it is late, in log odds: else, before Christmas
CARRIERS = {"Albatros": (0.5, 0.0), "Falke": (-3.0, 4.0), "Kranich": (1.0, 0.5)}
SERVICES = {"standard": 0.0, "express": -2.0}


def make_rows(stretch: Stretch, first_number: int, random: Random) -> list[dict[str, str]]:
    """The parcels of a stretch in the order in which they were handed over."""
    times = sorted(_handed_over(stretch, random) for _ in range(stretch.parcels))
    return [
        {"parcel": f"P{number:06}", "handed_over": f"{at:%Y-%m-%d %H:%M}"}
        | _parcel(at, random, christmas=stretch.christmas)
        for number, at in enumerate(times, start=first_number)
    ]


def _handed_over(stretch: Stretch, random: Random) -> datetime:
    minutes = random.randrange(7 * 60, 20 * 60)
    return stretch.first_day + timedelta(days=random.randrange(stretch.days), minutes=minutes)


def _parcel(at: datetime, random: Random, *, christmas: bool) -> dict[str, str]:
    carrier, service = random.choice(list(CARRIERS)), random.choice(list(SERVICES))
    weight = random.triangular(0.2, 14, 3) * (1.4 if christmas else 1)
    distance = random.triangular(20, 800, 250) * (1.3 if christmas else 1)
    stops = 1 + sum(random.random() < distance / 1300 for _ in range(6)) + christmas
    odds = (
        -5.2
        + CARRIERS[carrier][christmas]
        + SERVICES[service]
        + distance / 120
        + 0.3 * stops
        + (1.5 if at.hour >= 16 else 0)
    )
    late = random.random() < 1 / (1 + math.exp(-odds))
    known = random.random() >= UNKNOWN_WEIGHT_SHARE
    return {
        "carrier": carrier,
        "service": service,
        "weight_kg": f"{weight:.1f}" if known else "unknown",
        "distance_km": f"{distance:.0f}",
        "stops": str(stops),
        "outcome": "late" if late else "on_time",
    }


def write_all(folder: Path) -> None:
    """Write every stretch as a CSV file under the folder."""
    random = Random(SEED)  # noqa: S311 - no secret is made of it
    number = 1
    for stretch in STRETCHES:
        rows = make_rows(stretch, number, random)
        number += len(rows)
        path = folder / stretch.file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    write_all(FOLDER)
