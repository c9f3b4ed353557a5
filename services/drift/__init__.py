"""Asks of each batch whether the data has drifted from the reference, and keeps the reference.

from services.drift import Profile, check

profile = Profile.fit(reference)      # a pandas DataFrame or an Arrow table
report = check(profile, current)      # report.verdict, report.p, report.cells, …
"""

from services.drift.calibration.profile import Profile
from services.drift.one_shot import check

__all__ = ["Profile", "check"]
