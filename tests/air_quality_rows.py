"""Rows as the air-quality feed publishes them: simulated ones, and recorded ones where they are."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline as Steps

from services.ingest.rows import validate_rows
from services.trainer.challenger import Recipe, fit_model
from shared.pipeline import Pipeline
from shared.settings import read_settings
from shared.training import Training, Window

RECORDED = Path(__file__).parents[2] / "shared" / "data" / "aqi"

_POLLUTANTS = ("CO", "NO2", "OZONE", "PM10", "PM2.5", "SO2")


def raw_rows(
    stations: int = 30, *, hour: str = "2026-01-05 09:00", level: float = 50.0, lean: float = 0.5
) -> pd.DataFrame:
    """One hour's answer as texts, a row a station and pollutant, about 6 % of them without values.

    The average lies between minimum and maximum, at the share `lean` of the way, with some noise.
    """
    time = pd.Timestamp(hour)
    rng = np.random.default_rng([stations, time.day_of_year, time.hour])
    station = np.repeat(np.arange(stations), len(_POLLUTANTS))
    lowest = rng.gamma(4, level / 8, station.size)
    spread = rng.gamma(2, level / 4, station.size)
    average = lowest + lean * spread + rng.normal(0, level / 50, station.size)
    rows = pd.DataFrame(
        {
            "country": "India",
            "state": [f"State_{number % 5}" for number in station],
            "city": [f"City {number % 12}" for number in station],
            "station": [f"Station {number}, City {number % 12}" for number in station],
            "last_update": f"{time:%d-%m-%Y %H:%M:%S}",
            "latitude": [f"{8 + number * 0.61:.6f}" for number in station],
            "longitude": [f"{69 + number * 0.37:.6f}" for number in station],
            "pollutant_id": np.tile(_POLLUTANTS, stations),
            "pollutant_min": [f"{value:.0f}" for value in lowest],
            "pollutant_max": [f"{value:.0f}" for value in lowest + spread],
            "pollutant_avg": [f"{max(value, 0):.0f}" for value in average],
        }
    )
    rows.loc[rng.random(len(rows)) < 0.06, ["pollutant_min", "pollutant_max", "pollutant_avg"]] = (
        "NA"
    )
    return rows


def recorded_rows(number: int) -> pd.DataFrame:
    """A recorded answer as texts; 0 is the oldest."""
    file = sorted(RECORDED.glob("*.csv"))[number]
    return pd.read_csv(file, dtype=str, keep_default_na=False)


def batch_rows(raw: pd.DataFrame, pipeline: Pipeline) -> pd.DataFrame:
    """The rows with the types that ingest gives them."""
    return validate_rows(raw, pipeline.data, datetime(2030, 1, 1, tzinfo=UTC)).valid


def with_training(pipeline: Pipeline, **changes: object) -> Pipeline:
    """The pipeline with other keys under `training`."""
    training = Training.model_validate(pipeline.training.model_dump() | changes)
    return pipeline.model_copy(update={"training": training})


def fitted(rows: pd.DataFrame, pipeline: Pipeline) -> Steps:
    """A model on all of the rows, as the trainer makes it."""
    settings = read_settings(redis_url="redis://unused", mongodb_uri="mongodb://unused")
    training = pipeline.training
    recipe = Recipe(
        window=Window(policy="all"), time_parts=training.time_parts, parameters=training.parameters
    )
    return fit_model(rows, recipe, pipeline, settings).model
