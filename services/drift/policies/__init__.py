"""Drift policies: from counts to a finding.

A policy sees the profile of the reference and the counts of the windows due, and no rows.
`POLICIES` is the registry that a pipeline's `drift.policy` names.
"""

from typing import Final

from services.drift.policies.calibrated import calibrated
from services.drift.policies.columns import columns
from services.drift.policies.finding import Policy
from services.drift.policies.mean_change import mean_change
from services.drift.policies.mean_std_change import mean_std_change
from shared.drift import PolicyName

POLICIES: Final[dict[PolicyName, Policy]] = {
    "calibrated": calibrated,
    "columns": columns,
    "mean_std_change": mean_std_change,
    "mean_change": mean_change,
}
