"""How far the simulated hours lie apart under the drift rule `mean_std_change`."""

import time
from datetime import datetime

import numpy as np
import pytest

from services.feed.history import Row
from services.feed.stations import INDIA, MOST_STATIONS, SimulatedStations

START = datetime(2026, 1, 10, 9, tzinfo=INDIA)
COLUMNS = ("pollutant_min", "pollutant_max", "pollutant_avg")
STABLE = 48
Moments = tuple[np.ndarray, np.ndarray]


def values(rows: list[Row]) -> np.ndarray:
    return np.array(
        [[float(row[name]) for name in COLUMNS] for row in rows if row["pollutant_avg"] != "NA"]
    )


def moments(figures: np.ndarray) -> Moments:
    return figures.mean(axis=0), figures.std(axis=0, ddof=1)


def score(reference: Moments, current: Moments) -> float:
    """The mean over features of the mean of |Δmean| / |mean| and |Δstd| / std."""
    changes = [abs(new - old) / abs(old) for old, new in zip(reference, current, strict=True)]
    return float(np.mean(changes))


@pytest.fixture(scope="module", params=[(120, 7), (120, 1), (480, 7)], ids=str)
def hours(request: pytest.FixtureRequest) -> list[np.ndarray]:
    """48 stable hours and 8 of the episode."""
    stations, seed = request.param
    history = SimulatedStations(stations=stations, start=START, drift_at=STABLE, seed=seed)
    return [values(history.rows(hour)) for hour in range(STABLE + 8)]


def test_no_stable_hour_looks_drifted_against_any_earlier_one(hours: list[np.ndarray]) -> None:
    each = [moments(hour) for hour in hours[:STABLE]]
    worst = max(score(each[before], each[now]) for now in range(STABLE) for before in range(now))
    assert worst < 0.06


def test_no_stable_hour_looks_drifted_against_all_earlier_ones(hours: list[np.ndarray]) -> None:
    worst = max(
        score(moments(np.vstack(hours[:now])), moments(hours[now])) for now in range(1, STABLE)
    )
    assert worst < 0.06


def test_every_hour_of_the_episode_looks_drifted(hours: list[np.ndarray]) -> None:
    stable = [moments(hour) for hour in hours[:STABLE]]
    least = min(score(old, moments(hour)) for hour in hours[STABLE:] for old in stable)
    assert least > 0.15


def test_the_score_falls_as_the_reference_takes_the_episode_in(hours: list[np.ndarray]) -> None:
    scores = [
        score(moments(np.vstack(hours[STABLE - 5 : now])), moments(hours[now]))
        for now in range(STABLE, STABLE + 6)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < scores[0] / 2


def test_an_hour_is_made_fast() -> None:
    history = SimulatedStations(stations=480, start=START)
    history.rows(0)
    seconds = []
    for hour in range(1, 6):
        began = time.perf_counter()
        history.rows(hour)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.06


@pytest.mark.parametrize("stations", [0, MOST_STATIONS + 1])
def test_an_impossible_number_of_stations_is_refused(stations: int) -> None:
    with pytest.raises(ValueError, match=f"stations: {stations} is not within"):
        SimulatedStations(stations=stations, start=START)


def test_the_largest_network_has_no_two_stations_of_one_name() -> None:
    rows = SimulatedStations(stations=MOST_STATIONS, start=START).rows(0)
    assert len({row["station"] for row in rows}) == MOST_STATIONS


def test_a_start_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        SimulatedStations(stations=1, start=datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("hour", [-1, 3])
def test_an_hour_outside_the_history_is_refused(hour: int) -> None:
    with pytest.raises(IndexError, match=f"hour {hour} "):
        SimulatedStations(stations=1, start=START, hours=3).rows(hour)
