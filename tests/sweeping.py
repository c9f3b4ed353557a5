"""One sweep of every stage, as if each had a worker."""

from shared.events import STAGES
from shared.stage import Resources
from shared.store import Store
from shared.sweep import sweep


def sweep_all(resources: Resources) -> int:
    """Let every stage sweep once; returns how many messages were sent."""
    return sum(sweep(stage, resources) for stage in STAGES)


def prepare_all(store: Store, retention_days: int = 30) -> None:
    """Create the indexes of every stage's collections."""
    for stage in STAGES:
        store.prepare(stage, retention_days)
