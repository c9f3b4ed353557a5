"""The simulated stations: what an answer looks like, and that it is the same whenever asked."""

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from services.feed.history import Row
from services.feed.stations import INDIA, SimulatedStations

START = datetime(2026, 1, 10, 9, tzinfo=INDIA)
COLUMNS = ("pollutant_min", "pollutant_max", "pollutant_avg")
HEADER = {
    *("country", "state", "city", "station", "last_update", "latitude", "longitude"),
    *("pollutant_id", *COLUMNS),
}


def values(rows: list[Row]) -> np.ndarray:
    """The three figures of all rows that have them, of shape (rows, 3)."""
    return np.array(
        [[float(row[name]) for name in COLUMNS] for row in rows if row["pollutant_avg"] != "NA"]
    )


@pytest.mark.parametrize("stations", [1, 120, 480])
def test_an_hour_has_one_row_a_station_and_pollutant(stations: int) -> None:
    rows = SimulatedStations(stations=stations, start=START).rows(0)
    identities = {(row["station"], row["pollutant_id"]) for row in rows}
    assert len(rows) == len(identities) == stations * 7
    assert {row["pollutant_id"] for row in rows} == {
        *("CO", "NH3", "NO2", "OZONE", "PM10", "PM2.5", "SO2")
    }
    assert all(row.keys() == HEADER for row in rows)


def test_the_same_hour_is_the_same_rows_in_any_order_of_asking() -> None:
    one = SimulatedStations(stations=12, start=START, drift_at=3)
    other = SimulatedStations(stations=12, start=START, drift_at=3)
    backwards = {hour: other.rows(hour) for hour in (5, 4, 3, 2, 1, 0)}
    assert all(one.rows(hour) == backwards[hour] for hour in range(6))


def test_hours_and_seeds_differ() -> None:
    history = SimulatedStations(stations=12, start=START)
    reseeded = SimulatedStations(stations=12, start=START, seed=8)
    assert not np.array_equal(values(history.rows(0)), values(history.rows(1)))
    assert history.rows(0) != reseeded.rows(0)


def test_a_drift_to_come_changes_nothing_before_it() -> None:
    calm = SimulatedStations(stations=12, start=START)
    struck = SimulatedStations(stations=12, start=START, drift_at=2)
    assert struck.rows(1) == calm.rows(1)
    assert struck.rows(2) != calm.rows(2)


def test_times_are_india_standard_time_without_saying_so() -> None:
    evening = datetime(2025, 12, 31, 18, 0, tzinfo=UTC)  # 23:30 in India
    history = SimulatedStations(stations=1, start=evening)
    assert {row["last_update"] for row in history.rows(0)} == {"31-12-2025 23:30:00"}
    assert {row["last_update"] for row in history.rows(1)} == {"01-01-2026 00:30:00"}


def test_a_station_stays_where_it_is_in_india() -> None:
    history = SimulatedStations(stations=120, start=START)
    places = [
        {row["station"]: (row["latitude"], row["longitude"]) for row in history.rows(hour)}
        for hour in (0, 9)
    ]
    assert places[0] == places[1]
    coordinates = np.array(list(places[0].values()), dtype=float)
    assert (coordinates > (6, 68)).all()
    assert (coordinates < (36, 98)).all()


def test_station_names_contain_commas_as_the_feeds_do() -> None:
    rows = SimulatedStations(stations=40, start=START).rows(0)
    assert all(", " in row["station"] for row in rows)


@pytest.mark.parametrize("hour", [0, 7])
def test_minimum_average_and_maximum_are_whole_numbers_in_order(hour: int) -> None:
    rows = SimulatedStations(stations=120, start=START, drift_at=7).rows(hour)
    low, high, average = values(rows).T
    assert (low <= average).all()
    assert (average <= high).all()
    assert (low >= 1).all()
    assert all(row[name] == "NA" or row[name].isdecimal() for row in rows for name in COLUMNS)


def test_one_in_twenty_readings_is_missing_and_then_wholly() -> None:
    history = SimulatedStations(stations=120, start=START)
    rows = [row for hour in range(10) for row in history.rows(hour)]
    missing = [row for row in rows if "NA" in (row[name] for name in COLUMNS)]
    assert all(row[name] == "NA" for row in missing for name in COLUMNS)
    assert 0.03 < len(missing) / len(rows) < 0.07


def test_the_episode_raises_particles_only_and_shifts_the_average_up_its_range() -> None:
    history = SimulatedStations(stations=120, start=START, drift_at=1)
    rise, shift = {}, {}
    for name in ("PM2.5", "PM10", "SO2"):
        before, after = (
            values([row for row in history.rows(hour) if row["pollutant_id"] == name])
            for hour in (0, 1)
        )
        rise[name] = (after.mean(axis=0) / before.mean(axis=0)).mean() - 1
        shift[name] = _place_in_range(after) - _place_in_range(before)
    assert rise["PM2.5"] > 0.5
    assert rise["PM10"] > 0.4
    assert abs(rise["SO2"]) < 0.2
    assert shift["PM2.5"] > 0.1


def _place_in_range(figures: np.ndarray) -> float:
    low, high, average = figures.mean(axis=0)
    return float((average - low) / (high - low))


def test_successive_hours_are_one_hour_apart() -> None:
    history = SimulatedStations(stations=1, start=START)
    times = [
        datetime.strptime(history.rows(hour)[0]["last_update"], "%d-%m-%Y %H:%M:%S")  # noqa: DTZ007
        for hour in range(30)
    ]
    assert {later - earlier for earlier, later in itertools.pairwise(times)} == {timedelta(hours=1)}


def test_from_the_fault_on_one_average_of_five_is_an_error_code() -> None:
    sound = SimulatedStations(stations=60, start=START)
    faulty = SimulatedStations(stations=60, start=START, fault_at=2)
    assert faulty.rows(1) == sound.rows(1)
    before, after = sound.rows(2), faulty.rows(2)
    others = before[0].keys() - {"pollutant_avg"}
    assert [{name: row[name] for name in others} for row in after] == [
        {name: row[name] for name in others} for row in before
    ]
    changed = [now["pollutant_avg"] for now, then in zip(after, before, strict=True) if now != then]
    assert set(changed) == {"9999"}
    assert 0.15 < len(changed) / len(after) < 0.25
