"""The files of a publication."""

import json
from typing import Any, Final

from services.publisher.model_card import model_card
from shared.artifacts import sha256
from shared.failures import WillNotPass
from shared.pipeline import Pipeline
from shared.records import DriftReport, ModelVersion

Files = dict[str, bytes]
"""Name -> content."""

MODEL_FILE: Final = "model.joblib"


def bundle(
    model: ModelVersion, data: bytes, report: DriftReport | None, pipeline: Pipeline
) -> Files:
    """The files of a model: itself, its metrics, its drift report, a card, and a manifest.

    Raises:
        WillNotPass: a file is larger than the repository's host takes.
    """
    files: Files = {
        MODEL_FILE: data,
        "metrics.json": _json(model.metrics),
        "README.md": model_card(model, report, pipeline).encode(),
    }
    if report:
        files["drift_report.json"] = _json(report.model_dump(mode="json"))
    files["manifest.json"] = _json(_manifest(model, files))
    for name, content in files.items():
        _check_size(name, len(content), pipeline.publish.max_file_bytes)
    return files


def _manifest(model: ModelVersion, files: Files) -> dict[str, Any]:
    return {
        "pipeline": model.pipeline,
        "model_version": model.version,
        "trace_id": model.trace_id,
        "files": {
            name: {"sha256": sha256(content), "bytes": len(content)}
            for name, content in sorted(files.items())
        },
        "versions": model.lineage.get("versions", {}),
    }


def _check_size(name: str, size: int, limit: int) -> None:
    if size <= limit:
        return
    remedy = (
        "set training.parameters (min_samples_leaf higher, max_depth or n_estimators lower)"
        if name == MODEL_FILE
        else "shorten it"
    )
    raise WillNotPass(
        f"{name} has {size:,} bytes, more than publish.max_file_bytes = {limit:,}: {remedy}, or "
        "raise the limit if the repository's host takes larger files"
    )


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
