"""The drift report: what a check found, as a person and a program read it.

`drift_report.json` is this model as JSON; `drift_report.schema.json` beside this module is its
committed schema.
"""

import html
import json

from shared.drift_report import (
    Bars,
    Chart,
    ColumnRole,
    FullReport,
    Histogram,
    MissingRate,
    Part,
    PastCheck,
    QuestionableColumn,
    WindowFinding,
)

__all__ = [
    "Bars",
    "Chart",
    "ColumnRole",
    "DriftReport",
    "Histogram",
    "MissingRate",
    "Part",
    "PastCheck",
    "QuestionableColumn",
    "WindowFinding",
    "json_schema",
]


class DriftReport(FullReport):
    """All that a check found."""

    def _repr_html_(self) -> str:
        """The HTML report in a frame of its own, for a notebook."""
        from services.drift.report.page import render_html

        page = html.escape(render_html(self))
        return f'<iframe srcdoc="{page}" style="width:100%;height:48em;border:0"></iframe>'


def json_schema() -> str:
    """The JSON schema of `drift_report.json`, as committed."""
    return json.dumps(DriftReport.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
