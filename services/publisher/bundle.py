"""The files of a publication."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from services.publisher.model_card import PLOT_FILES, model_card
from services.publisher.signing import Signer
from shared.artifacts import sha256
from shared.failures import WillNotPass
from shared.pipeline import Pipeline
from shared.records import DriftReport, ModelVersion

Files = dict[str, bytes]
"""Name -> content."""

MODEL_FILE: Final = "model.joblib"
METRICS_FILE: Final = "metrics.json"
REPORT_FILE: Final = "drift_report.json"
CARD_FILE: Final = "README.md"
MANIFEST_FILE: Final = "manifest.json"

FILE_NAMES: Final = (
    CARD_FILE,
    REPORT_FILE,
    MANIFEST_FILE,
    METRICS_FILE,
    MODEL_FILE,
    *PLOT_FILES,
)
"""All that a publication may consist of: those that a model does not have are not on the branch."""

_OURS: Final = {"id", "handled_seconds", "counts", "details", "chart"}
"""Fields of a report that mean something in the store only."""


def bundle(
    model: ModelVersion,
    data: bytes,
    report: DriftReport | None,
    pipeline: Pipeline,
    details: bytes | None = None,
    plots: Mapping[str, bytes] = MappingProxyType({}),
    signer: Signer | None = None,
) -> Files:
    """The files of a model: itself, its metrics, its drift report, a card, plots, and a manifest.

    The same records give the same bytes.

    Args:
        data: the model as joblib wrote it.
        report: of the batch that asked for the model; none if it is not kept any more.
        details: the whole report as JSON; without it the short one is published.
        plots: file name -> PNG; those of PLOT_FILES that the host takes are published, and shown
            on the card.
        signer: whose signature the tag has; none if it has none.

    Raises:
        WillNotPass: a file is larger than the repository's host takes, or a figure is not finite.
    """
    shown = _small_enough(plots, pipeline.publish.max_file_bytes)
    files: Files = {
        MODEL_FILE: data,
        METRICS_FILE: _json(METRICS_FILE, model.metrics),
        CARD_FILE: model_card(model, report, pipeline, shown, signer).encode(),
        **shown,
    }
    if details:
        files[REPORT_FILE] = details
    elif report:
        files[REPORT_FILE] = _json(REPORT_FILE, report.model_dump(mode="json", exclude=_OURS))
    files[MANIFEST_FILE] = _json(MANIFEST_FILE, _manifest(model, files))
    for name, content in files.items():
        _check_size(name, len(content), pipeline.publish.max_file_bytes)
    return files


def _small_enough(plots: Mapping[str, bytes], limit: int) -> Files:
    """The plots that may be published: for want of one no model stays away."""
    known = {name: plots[name] for name in PLOT_FILES if name in plots}
    return {name: content for name, content in known.items() if len(content) <= limit}


def _manifest(model: ModelVersion, files: Files) -> dict[str, Any]:
    return {
        "pipeline": model.pipeline,
        "model_version": model.version,
        "trace_id": model.trace_id,
        "sealed_sha256": model.model,
        "files": {
            name: {"sha256": sha256(content), "bytes": len(content)}
            for name, content in files.items()
        },
        "versions": model.lineage.get("versions", {}),
    }


def _check_size(name: str, size: int, limit: int) -> None:
    if size <= limit:
        return
    remedy = (
        "make the model smaller by training.parameters (a higher min_samples_leaf, a lower "
        "max_depth or n_estimators)"
        if name == MODEL_FILE
        else "have the pipeline name fewer features"
    )
    raise WillNotPass(
        f"{name} has {size:,} bytes, more than publish.max_file_bytes = {limit:,}: {remedy}, or "
        "raise publish.max_file_bytes if the repository's host takes larger files"
    )


def _json(name: str, content: Any) -> bytes:
    try:
        text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise WillNotPass(f"{name} cannot be written: {error}") from None
    return f"{text}\n".encode()
