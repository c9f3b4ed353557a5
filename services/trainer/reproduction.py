"""A version trained again from its record: the same rows and the same recipe, the same bytes."""

from dataclasses import dataclass

from services.trainer.artifact import dump_model
from services.trainer.challenger import Recipe, fit_model
from services.trainer.train import library_versions
from services.trainer.window import as_recorded, held_out_of
from shared.artifacts import sha256
from shared.events import Sha256
from shared.failures import WillNotPass
from shared.frames import from_parquet
from shared.pipeline import Pipeline
from shared.records import ModelVersion
from shared.settings import Settings
from shared.store import Store


@dataclass(frozen=True)
class Reproduced:
    """What came of training a version again."""

    expected_sha256: Sha256
    sha256: Sha256
    different_versions: dict[str, tuple[str, str]]
    """Library -> its version then and now, where they differ; 'none' where it was not there."""

    @property
    def same(self) -> bool:
        """Whether the bytes are the recorded ones."""
        return self.sha256 == self.expected_sha256


def reproduce(
    model: ModelVersion, pipeline: Pipeline, store: Store, settings: Settings
) -> Reproduced:
    """Train a version again, with the definition of the pipeline as it was then.

    Raises:
        WillNotPass: its rows are no longer kept, or its record does not say how it was made.
    """
    as_then, recipe = _recorded(model, pipeline)
    rows = from_parquet(store.blob(model.window))
    held_out = held_out_of(model, rows, pipeline, store)
    if held_out is None:
        raise WillNotPass(
            f"v{model.version} of {model.pipeline} cannot be trained again: its record does not "
            "say which rows were held out"
        )
    learnt = rows[~held_out & rows[as_then.training.target].notna()]
    fitted = fit_model(learnt, recipe, as_then, settings)
    return Reproduced(
        expected_sha256=model.model,
        sha256=sha256(dump_model(fitted.model)),
        different_versions=_different(model.lineage.get("versions", {}), library_versions()),
    )


def _recorded(model: ModelVersion, pipeline: Pipeline) -> tuple[Pipeline, Recipe]:
    try:
        return as_recorded(model, pipeline), Recipe.model_validate(model.lineage["recipe"])
    except (KeyError, ValueError) as error:
        raise WillNotPass(
            f"v{model.version} of {model.pipeline} cannot be trained again: its record does not "
            f"say how it was made ({type(error).__name__}: {error})"
        ) from None


def _different(then: dict[str, str], now: dict[str, str]) -> dict[str, tuple[str, str]]:
    pairs = {name: (then.get(name, "none"), now.get(name, "none")) for name in then | now}
    return {name: pair for name, pair in sorted(pairs.items()) if pair[0] != pair[1]}
