"""One drift check from Python, without any server: `python examples/check_two_tables.py`.

In a notebook the last line of a cell, `report`, shows the whole report.
"""

from pathlib import Path

import pandas as pd

from services.drift import Profile, check

PARCELS = Path(__file__).parent / "parcels"

reference = pd.read_csv(PARCELS / "reference.csv")
profile = Profile.fit(reference)  # learn the reference once; profile.save(path) keeps it

for batch in sorted(PARCELS.glob("batches/*.csv")):
    report = check(profile, pd.read_csv(batch), name=batch.name)
    print(f"{batch.name}: {report.verdict}. {report.reason}")  # noqa: T201
