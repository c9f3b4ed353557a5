"""Names, labels and their bounds, without a store or a broker."""

import re
import subprocess
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from services.exporter import metrics
from services.exporter.metrics import FAMILIES, Samples, exposed, label
from services.exporter.pipelines import bounded_cells
from shared.drift import CellFinding


def test_names_follow_the_guidelines() -> None:
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))
    for family in FAMILIES:
        assert re.fullmatch(r"trimtab(_[a-z]+)+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert not re.search(r"_(count|sum|bucket|info|ms|minutes|hours|percent)$", family.name)
        assert all(re.fullmatch(r"[a-z]+", each) for each in family.labels)
        assert family.meaning


@given(value=st.text(st.characters(), max_size=200))
def test_any_text_from_data_can_be_a_label(value: str) -> None:
    samples: Samples = {metrics.FEATURE_DRIFT: {("p", label(value)): 0.5}}
    (family,) = text_string_to_metric_families(as_text(samples))
    ((_, labels, number, *_),) = family.samples
    assert number == 0.5
    assert labels == {"pipeline": "p", "feature": label(value)}
    assert len(label(value)) <= metrics.LONGEST_LABEL


def as_text(samples: Samples) -> str:
    class Given(Collector):
        def collect(self) -> Any:
            return exposed(samples)

    registry = CollectorRegistry()
    registry.register(Given())
    return generate_latest(registry).decode()


cells = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["number", "missing", "pair"]),
            "column": st.integers(0, 60).map("c{}".format),
            "segment": st.none() | st.integers(0, 60).map("s{}".format),
            "effect": st.floats(0, 1),
            "p": st.none() | st.floats(0, 1),
        }
    ),
    max_size=300,
)


@given(found=cells)
def test_features_and_segments_are_bounded_and_the_largest_are_there(found: Any) -> None:
    served = bounded_cells([CellFinding.model_construct(**cell) for cell in found])
    assert len({feature for feature, _ in served}) <= metrics.MOST_FEATURES
    assert len({segment for _, segment in served} - {""}) <= metrics.MOST_SEGMENTS
    single = [cell for cell in found if cell["kind"] != "pair"]
    assert bool(served) == bool(single)
    if single:
        assert max(effect for effect, _ in served.values()) == max(c["effect"] for c in single)
    for (feature, segment), (effect, p) in served.items():
        of_place = [
            cell
            for cell in single
            if cell["column"] == feature and (cell["segment"] or "") == segment
        ]
        assert effect == max(cell["effect"] for cell in of_place)
        assert (effect, p) in [(cell["effect"], cell["p"]) for cell in of_place]


def test_the_exporter_stays_small() -> None:
    large = {"pandas", "numpy", "sklearn", "scipy", "pyarrow", "matplotlib", "typer"}
    code = f"import services.exporter.__main__, sys; print({large!r} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
