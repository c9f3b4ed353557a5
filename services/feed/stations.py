"""Simulated air-quality stations: every hour is a function of the seed and the hour alone."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from services.feed.history import Row

INDIA: Final = ZoneInfo("Asia/Kolkata")

# city, state, latitude, longitude, how dirty its air is against the mean
_CITIES: Final = (
    ("Delhi", "Delhi", 28.65, 77.22, 1.5),
    ("Mumbai", "Maharashtra", 19.08, 72.88, 1.0),
    ("Pune", "Maharashtra", 18.52, 73.86, 0.9),
    ("Bengaluru", "Karnataka", 12.97, 77.59, 0.7),
    ("Chennai", "TamilNadu", 13.08, 80.27, 0.8),
    ("Hyderabad", "Telangana", 17.38, 78.48, 0.9),
    ("Kolkata", "West_Bengal", 22.57, 88.36, 1.1),
    ("Patna", "Bihar", 25.59, 85.14, 1.4),
    ("Lucknow", "Uttar_Pradesh", 26.85, 80.95, 1.3),
    ("Jaipur", "Rajasthan", 26.91, 75.79, 1.1),
    ("Ahmedabad", "Gujarat", 23.03, 72.58, 1.1),
    ("Guwahati", "Assam", 26.14, 91.74, 0.9),
)
_QUARTERS: Final = ("Civil Lines", "Old Town", "Railway Colony", "Lake View", "Ring Road", "Depot")
# pollutant: typical level, share that a winter episode adds
_POLLUTANTS: Final = {
    "CO": (32.0, 0.1),
    "NH3": (6.0, 0.0),
    "NO2": (24.0, 0.1),
    "OZONE": (34.0, -0.1),
    "PM10": (92.0, 0.45),
    "PM2.5": (80.0, 0.6),
    "SO2": (12.0, 0.0),
}
_MISSING_SHARE: Final = 0.05


@dataclass(frozen=True)
class SimulatedStations:
    """Hours of simulated stations, with a winter episode from `drift_at` on.

    In the episode PM2.5 and PM10 rise and spread, and the day's mean moves nearer to its maximum,
    so a model from before the episode is wrong during it.
    """

    stations: int
    start: datetime
    """The time of hour 0."""
    drift_at: int | None = None
    hours: int | None = None
    seed: int = 7

    def rows(self, hour: int) -> list[Row]:
        """One row for each station and pollutant."""
        low, mean, high = self._values(hour)
        rng = np.random.default_rng((self.seed, hour, 1))
        missing = rng.random(low.shape) < _MISSING_SHARE
        at = (self.start + timedelta(hours=hour)).astimezone(INDIA).strftime("%d-%m-%Y %H:%M:%S")
        return [
            station
            | {"last_update": at, "pollutant_id": pollutant}
            | _measured(low[i, j], high[i, j], mean[i, j], absent=bool(missing[i, j]))
            for i, station in enumerate(self._stations)
            for j, pollutant in enumerate(_POLLUTANTS)
        ]

    def _values(self, hour: int) -> tuple[NDArray[np.int64], ...]:
        """Minimum, mean and maximum, each of shape (stations, pollutants)."""
        rng = np.random.default_rng((self.seed, hour, 0))
        shape = self._levels.shape
        episode = self.drift_at is not None and hour >= self.drift_at
        at = (self.start + timedelta(hours=hour)).astimezone(INDIA)
        day = 1 + 0.03 * np.cos((at.hour - 21) / 24 * 2 * np.pi)
        level = self._levels * day * rng.lognormal(0, 0.08, shape)
        if episode:
            level = level * (1 + self._episode) * rng.lognormal(0, 0.12, shape)
        spread = rng.uniform(0.35, 0.6, shape)
        low, high = level * (1 - spread), level * (1 + 2.2 * spread)
        nearer = 0.55 if episode else 0.4
        mean = low + (high - low) * np.clip(rng.normal(nearer, 0.05, shape), 0.05, 0.95)
        return tuple(np.maximum(1, value.round()).astype(np.int64) for value in (low, mean, high))

    @cached_property
    def _stations(self) -> list[Row]:
        rng = np.random.default_rng((self.seed, 0, 2))
        places = []
        for number in range(self.stations):
            city, state, latitude, longitude, _ = _CITIES[number % len(_CITIES)]
            quarter = _QUARTERS[number // len(_CITIES) % len(_QUARTERS)]
            places.append(
                {
                    "country": "India",
                    "state": state,
                    "city": city,
                    "station": f"{quarter} {number + 1}, {city} - Simulated",
                    "latitude": f"{latitude + rng.normal(0, 0.08):.6f}",
                    "longitude": f"{longitude + rng.normal(0, 0.08):.6f}",
                }
            )
        return places

    @cached_property
    def _levels(self) -> NDArray[np.float64]:
        """The usual level of each station and pollutant."""
        rng = np.random.default_rng((self.seed, 0, 3))
        dirt = np.array([_CITIES[n % len(_CITIES)][4] for n in range(self.stations)])
        typical = np.array([level for level, _ in _POLLUTANTS.values()])
        local = rng.lognormal(0, 0.3, (self.stations, len(_POLLUTANTS)))
        return np.asarray(dirt[:, None] * typical * local)

    @property
    def _episode(self) -> NDArray[np.float64]:
        return np.array([added for _, added in _POLLUTANTS.values()])


def _measured(low: int, high: int, mean: int, *, absent: bool) -> Row:
    """The three figures of a pollutant, in the order of the feed's columns."""
    values = ("NA", "NA", "NA") if absent else (str(low), str(high), str(mean))
    return dict(zip(("pollutant_min", "pollutant_max", "pollutant_avg"), values, strict=True))
