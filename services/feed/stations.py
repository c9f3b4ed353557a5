"""Simulated stations: hourly air-quality answers as data.gov.in gives them, with a known drift.

An hour is a pure function of the seed and its number. Each station has a level of its own for each
pollutant, a mild daily cycle and noise. From the hour of the drift on there is a winter episode:
minimum and maximum of PM2.5 and PM10 rise by about 85 %, differently from station to station, and
the averages, which foul air that stays moves up between the two, more than double. From the hour
of the fault on the instruments send an error code in place of one average of five, whatever minimum
and maximum are: a model can learn nothing from it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import product
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from services.feed.history import Row

Values = NDArray[np.float64]

INDIA: Final = ZoneInfo("Asia/Kolkata")
"""The zone that the feed's times are in, without saying so."""

TIME_FORMAT: Final = "%d-%m-%Y %H:%M:%S"
_MISSING: Final = "NA"
_OUT_OF_ORDER_SHARE: Final = 0.035
"""Instruments that say nothing the whole time."""
_MISSED_SHARE: Final = 0.015
"""Hourly readings that the other instruments miss."""
_FAULTY_SHARE: Final = 0.2
"""Averages in whose place faulty instruments send their error code."""
_ERROR_CODE: Final = 9999
_LOWEST, _HIGHEST = 1, 500
"""The scale of the air-quality index."""

_CITIES: Final = (
    ("Visakhapatnam", "Andhra_Pradesh", 17.69, 83.22),
    ("Guwahati", "Assam", 26.14, 91.74),
    ("Patna", "Bihar", 25.59, 85.14),
    ("Gaya", "Bihar", 24.79, 85.00),
    ("Chandigarh", "Chandigarh", 30.73, 76.78),
    ("Bhilai", "Chhattisgarh", 21.19, 81.38),
    ("Delhi", "Delhi", 28.65, 77.22),
    ("Ahmedabad", "Gujarat", 23.02, 72.57),
    ("Surat", "Gujarat", 21.17, 72.83),
    ("Faridabad", "Haryana", 28.41, 77.32),
    ("Hisar", "Haryana", 29.15, 75.72),
    ("Ranchi", "Jharkhand", 23.34, 85.31),
    ("Bengaluru", "Karnataka", 12.97, 77.59),
    ("Hubballi", "Karnataka", 15.36, 75.12),
    ("Kochi", "Kerala", 9.93, 76.27),
    ("Bhopal", "Madhya Pradesh", 23.26, 77.41),
    ("Indore", "Madhya Pradesh", 22.72, 75.86),
    ("Mumbai", "Maharashtra", 19.08, 72.88),
    ("Nagpur", "Maharashtra", 21.15, 79.09),
    ("Pune", "Maharashtra", 18.52, 73.86),
    ("Shillong", "Meghalaya", 25.58, 91.89),
    ("Cuttack", "Odisha", 20.46, 85.88),
    ("Amritsar", "Punjab", 31.63, 74.87),
    ("Jaipur", "Rajasthan", 26.91, 75.79),
    ("Jodhpur", "Rajasthan", 26.24, 73.02),
    ("Chennai", "TamilNadu", 13.08, 80.27),
    ("Hyderabad", "Telangana", 17.39, 78.49),
    ("Lucknow", "Uttar_Pradesh", 26.85, 80.95),
    ("Varanasi", "Uttar_Pradesh", 25.32, 82.97),
    ("Kolkata", "West_Bengal", 22.57, 88.36),
)
_LOCALITIES: Final = tuple(
    f"{first} {second}"
    for first, second in product(
        (
            *("Amrit", "Chandan", "Gulab", "Hari", "Jyoti", "Kamal", "Keshav", "Lotus", "Madhav"),
            *("Meera", "Mohan", "Neem", "Prem", "Sagar", "Shanti", "Surya", "Tulsi", "Vasant"),
        ),
        (
            *("Bagh", "Chowk", "Colony", "Enclave", "Garden", "Ghat", "Marg", "Nagar", "Park"),
            *("Puri", "Vihar", "Wadi"),
        ),
    )
)
MOST_STATIONS: Final = len(_CITIES) * len(_LOCALITIES)


@dataclass(frozen=True)
class Pollutant:
    """How a pollutant behaves at the stations."""

    name: str
    level: float
    """The middle of its range at the median station, as an index."""
    station_spread: float
    """Standard deviation of the stations' levels, in logarithms."""
    swing: float
    """Amplitude of the daily cycle, as a share of the level."""
    peak_hour: int
    episode_rise: float = 0.0
    """The rise of minimum and maximum in the winter episode, as a share; averages rise more."""


_POLLUTANTS: Final = (
    Pollutant("CO", level=34, station_spread=0.40, swing=0.04, peak_hour=21),
    Pollutant("NH3", level=6, station_spread=0.50, swing=0.04, peak_hour=6),
    Pollutant("NO2", level=28, station_spread=0.50, swing=0.05, peak_hour=20),
    Pollutant("OZONE", level=40, station_spread=0.45, swing=0.06, peak_hour=15),
    Pollutant("PM10", level=86, station_spread=0.35, swing=0.02, peak_hour=23, episode_rise=0.85),
    Pollutant("PM2.5", level=62, station_spread=0.40, swing=0.02, peak_hour=23, episode_rise=0.85),
    Pollutant("SO2", level=18, station_spread=0.45, swing=0.04, peak_hour=11),
)
_LEVEL: Final = np.array([pollutant.level for pollutant in _POLLUTANTS])
_STATION_SPREAD: Final = np.array([pollutant.station_spread for pollutant in _POLLUTANTS])
_SWING: Final = np.array([pollutant.swing for pollutant in _POLLUTANTS])
_PEAK_HOUR: Final = np.array([pollutant.peak_hour for pollutant in _POLLUTANTS])
_EPISODE_RISE: Final = np.array([pollutant.episode_rise for pollutant in _POLLUTANTS])

_HALF_RANGE: Final = 0.7
"""Half the logarithm of max / min at the typical station: the maximum is four times the minimum."""
_HALF_RANGE_SPREAD: Final = 0.15
_NOISE: Final = 0.06
"""Hourly noise of minimum and maximum, in logarithms."""
_AVERAGE_AT: Final = 0.36
"""Where in the range from minimum to maximum the average lies."""
_AVERAGE_AT_SPREAD: Final = 0.06
_AVERAGE_AT_NOISE: Final = 0.04
_EPISODE_SPREAD: Final = 0.25
"""How differently the episode strikes the stations, in logarithms."""
_EPISODE_AVERAGE_AT: Final = 0.16
"""How far up the range the averages move in the episode."""


@dataclass(frozen=True)
class _Network:
    """What stays the same at the stations from hour to hour. Arrays: (stations, pollutants)."""

    places: list[Row]
    """What each station's rows begin with."""
    level: Values
    half_range: Values
    average_at: Values
    episode_factor: Values
    out_of_order: NDArray[np.bool_]


@dataclass(frozen=True)
class SimulatedStations:
    """Hours of simulated stations.

    Raises:
        ValueError: no or too many stations, or a start without a time zone.
    """

    stations: int
    start: datetime
    """The time of hour 0, with a zone."""
    drift_at: int | None = None
    """The first hour of the winter episode, which does not end; None: there is none."""
    fault_at: int | None = None
    """The first hour of error codes, which do not end; None: there are none."""
    hours: int | None = None
    seed: int = 7

    def __post_init__(self) -> None:
        if not 1 <= self.stations <= MOST_STATIONS:
            raise ValueError(f"stations: {self.stations} is not within 1 to {MOST_STATIONS}")
        if self.start.tzinfo is None:
            raise ValueError("start: a time without a time zone")

    def rows(self, hour: int) -> list[Row]:
        """The rows of an hour, from 0: one a station and pollutant, station by station."""
        if hour < 0 or (self.hours is not None and hour >= self.hours):
            raise IndexError(f"hour {hour} is not within this history")
        at = self.start.astimezone(INDIA) + timedelta(hours=hour)
        rng = np.random.default_rng((self.seed, 1, hour))
        episode = self.drift_at is not None and hour >= self.drift_at
        readings = _measure(self._network, at.hour, rng, episode=episode)
        if self.fault_at is not None and hour >= self.fault_at:
            readings = _with_error_codes(readings, np.random.default_rng((self.seed, 2, hour)))
        missed = rng.random(self._network.level.shape) < _MISSED_SHARE
        missing = self._network.out_of_order | missed
        return list(_rows(self._network.places, at.strftime(TIME_FORMAT), readings, missing))

    @cached_property
    def _network(self) -> _Network:
        return _build_network(self.stations, np.random.default_rng((self.seed, 0)))


def _build_network(stations: int, rng: np.random.Generator) -> _Network:
    shape = (stations, len(_POLLUTANTS))
    struck = rng.normal(0, _EPISODE_SPREAD, shape) - _EPISODE_SPREAD**2 / 2
    return _Network(
        places=_build_places(stations, rng),
        level=_LEVEL * np.exp(_STATION_SPREAD * rng.normal(size=shape)),
        half_range=np.abs(rng.normal(_HALF_RANGE, _HALF_RANGE_SPREAD, shape)),
        average_at=rng.normal(_AVERAGE_AT, _AVERAGE_AT_SPREAD, shape),
        episode_factor=np.where(_EPISODE_RISE > 0, (1 + _EPISODE_RISE) * np.exp(struck), 1.0),
        out_of_order=rng.random(shape) < _OUT_OF_ORDER_SHARE,
    )


def _build_places(stations: int, rng: np.random.Generator) -> list[Row]:
    """A name, which no two stations share, and a place in or near its city for each station."""
    localities = rng.permutation(_LOCALITIES)
    offsets = rng.normal(0, 0.06, (stations, 2))
    places = []
    for number, (north, east) in enumerate(offsets):
        turn, in_list = divmod(number, len(_CITIES))
        city, state, latitude, longitude = _CITIES[in_list]
        locality = localities[(turn + 7 * in_list) % len(localities)]
        places.append(
            {
                "country": "India",
                "state": state,
                "city": city,
                "station": f"{locality}, {city} - SimPCB",
                "latitude": f"{latitude + north:.6f}",
                "longitude": f"{longitude + east:.6f}",
            }
        )
    return places


def _measure(
    network: _Network, hour_of_day: int, rng: np.random.Generator, *, episode: bool
) -> NDArray[np.int64]:
    """Minimum, maximum and average of one hour, of shape (3, stations, pollutants)."""
    shape = network.level.shape
    middle = network.level * (1 + _SWING * np.cos(2 * np.pi * (hour_of_day - _PEAK_HOUR) / 24))
    average_at = network.average_at + rng.normal(0, _AVERAGE_AT_NOISE, shape)
    if episode:
        middle = middle * network.episode_factor
        average_at = average_at + np.where(_EPISODE_RISE > 0, _EPISODE_AVERAGE_AT, 0.0)
    low = middle * np.exp(-network.half_range + rng.normal(0, _NOISE, shape))
    high = np.maximum(low, middle * np.exp(network.half_range + rng.normal(0, _NOISE, shape)))
    average = low + np.clip(average_at, 0, 1) * (high - low)
    readings: Values = np.stack([low, high, average])
    return np.asarray(np.rint(readings.clip(_LOWEST, _HIGHEST)), dtype=np.int64)


def _with_error_codes(readings: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    low, high, average = readings
    faulty = rng.random(average.shape) < _FAULTY_SHARE
    return np.stack([low, high, np.where(faulty, _ERROR_CODE, average)])


def _rows(
    places: list[Row], last_update: str, readings: NDArray[np.int64], missing: NDArray[np.bool_]
) -> Iterator[Row]:
    texts = np.where(missing, _MISSING, readings.astype(np.str_)).tolist()
    for place, lows, highs, averages in zip(places, *texts, strict=True):
        for pollutant, low, high, average in zip(_POLLUTANTS, lows, highs, averages, strict=True):
            yield {
                "country": place["country"],
                "state": place["state"],
                "city": place["city"],
                "station": place["station"],
                "last_update": last_update,
                "latitude": place["latitude"],
                "longitude": place["longitude"],
                "pollutant_id": pollutant.name,
                "pollutant_min": low,
                "pollutant_max": high,
                "pollutant_avg": average,
            }
