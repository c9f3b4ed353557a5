"""`python -m tests.monitoring ADDRESS`: does every panel show data, says a running Prometheus."""

import sys

from tests.monitoring.answers import without_data
from tests.monitoring.queries import alert_queries, panel_queries

if __name__ == "__main__":
    empty = without_data(sys.argv[1].rstrip("/"))
    asked = f"{len(panel_queries())} queries of panels and {len(alert_queries())} alerts"
    sys.stdout.write("\n".join([*empty, f"{asked}: {len(empty)} without data"]) + "\n")
    sys.exit(bool(empty))
