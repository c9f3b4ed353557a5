"""Every metric that is served: its name, type, labels and meaning.

Names follow Prometheus' guidelines: base units, `_total` for what only rises. Labels are bounded:
by the pipelines' files, by enumerations of this code, by the channels that are set, and for
features and segments, which come from data, by the numbers below.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

MOST_FEATURES: Final = 30
MOST_SEGMENTS: Final = 20
"""So many of each pipeline are served, those with the largest effects."""
LONGEST_LABEL: Final = 80
"""Characters that are kept of a value that comes from data."""
MOST_SLOTS: Final = 1000
"""Slots without a batch are counted no further."""

MOST_UNPUBLISHED: Final = 100
"""Promotions that are not published are counted no further."""

UNKNOWN: Final = "unknown"
"""The pipeline of a dead letter that came in place of an event of one that is known."""

Kind = Literal["counter", "gauge"]
Values = dict[tuple[str, ...], float]
"""Label values, in the order of the family's labels -> the value."""


@dataclass(frozen=True)
class Family:
    """A metric as it is served."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str


Samples = dict[Family, Values]

_FEATURES: Final = f"The {MOST_FEATURES} features with the largest."
_SEGMENTS: Final = (
    f"The {MOST_FEATURES} features and {MOST_SEGMENTS} segments with the largest effects; "
    "an empty segment is all rows."
)

# What has happened since the exporter started. It only rises, although records expire.

READINGS: Final = Family(
    "trimtab_readings_total", "counter", ("pipeline",), "Readings of the pipeline's source."
)
BATCHES: Final = Family(
    "trimtab_batches_total", "counter", ("pipeline",), "Batches: readings that brought something."
)
ROWS: Final = Family(
    "trimtab_rows_total",
    "counter",
    ("pipeline", "result"),
    "Rows read: new, taken_in_before, repeated in one answer, changed (a known key with other "
    "values), set_aside because the schema refused them, or missing because the source did not "
    "answer them.",
)
CHECKS: Final = Family(
    "trimtab_checks_total", "counter", ("pipeline", "verdict"), "Checks for drift, by verdict."
)
MODELS: Final = Family(
    "trimtab_models_total",
    "counter",
    ("pipeline", "decision"),
    "Model versions: promoted, rejected, or restored by a rollback.",
)
PUBLICATIONS: Final = Family(
    "trimtab_publications_total",
    "counter",
    ("pipeline",),
    "Models committed to the model repository.",
)
MESSAGES: Final = Family(
    "trimtab_messages_total",
    "counter",
    ("pipeline", "channel", "outcome"),
    "Messages to people by channel: sent, printed or refused.",
)
DEAD_LETTERS: Final = Family(
    "trimtab_dead_letters_total",
    "counter",
    ("pipeline", "stage"),
    "Events that a stage gave up on; what is no event of a known pipeline is of pipeline unknown.",
)
HANDLED: Final = Family(
    "trimtab_handled_events_total", "counter", ("stage",), "Events that a stage has handled."
)
HANDLING_SECONDS: Final = Family(
    "trimtab_handling_seconds_total",
    "counter",
    ("stage",),
    "Seconds that the tries took by which events were handled.",
)
RETRIES: Final = Family(
    "trimtab_retries_total",
    "counter",
    ("stage",),
    "Tries after the first, counted when their event is handled or given up.",
)

UNREADABLE: Final = Family(
    "trimtab_unreadable_records_total",
    "counter",
    (),
    "Records that are not as this version writes them, so that they count for nothing else.",
)

# What each pipeline has come to, from the store.

READABLE: Final = Family(
    "trimtab_pipeline_readable",
    "gauge",
    ("pipeline",),
    "Whether the pipeline's newest records are as this version writes them; 0: they are not, and "
    "the pipeline's other gauges are left out.",
)
NEWEST_BATCH: Final = Family(
    "trimtab_newest_batch_timestamp_seconds", "gauge", ("pipeline",), "When the newest batch came."
)
SLOTS_WITHOUT_BATCH: Final = Family(
    "trimtab_slots_without_batch",
    "gauge",
    ("pipeline",),
    "Slots of the schedule since the newest batch, or since the exporter's start if there is none; "
    f"{MOST_SLOTS} stands for as many or more. Not for files, which come when they come.",
)
UNCHECKED: Final = Family(
    "trimtab_unchecked_batches", "gauge", ("pipeline",), "Batches that are not checked yet."
)
NEWEST_CHECK: Final = Family(
    "trimtab_newest_check_timestamp_seconds", "gauge", ("pipeline",), "When the newest check was."
)
VERDICT: Final = Family(
    "trimtab_newest_check_verdict",
    "gauge",
    ("pipeline", "verdict"),
    "1 for the newest check's verdict, 0 for the others.",
)
DRIFT_SCORE: Final = Family(
    "trimtab_drift_score", "gauge", ("pipeline",), "The newest check's drift score."
)
DRIFT_P: Final = Family(
    "trimtab_drift_p_value",
    "gauge",
    ("pipeline",),
    "The newest check's p-value (policy calibrated).",
)
DRIFT_THRESHOLD: Final = Family(
    "trimtab_drift_threshold",
    "gauge",
    ("pipeline",),
    "What decides: policy calibrated compares the p-value with it, the others the drift score. "
    "Not for a check that compared nothing.",
)
FEATURE_DRIFT: Final = Family(
    "trimtab_feature_drift_score",
    "gauge",
    ("pipeline", "feature"),
    f"The newest check's drift score of a feature. {_FEATURES} Not for columns that are "
    "compared by a p-value (ks, chi2).",
)
SEGMENT_EFFECT: Final = Family(
    "trimtab_segment_drift_effect_ratio",
    "gauge",
    ("pipeline", "feature", "segment"),
    f"The size of the change of a feature within a segment, from 0 to 1. {_SEGMENTS}",
)
SEGMENT_P: Final = Family(
    "trimtab_segment_drift_p_value",
    "gauge",
    ("pipeline", "feature", "segment"),
    f"The p-value of that change, as if nothing else had been looked at. {_SEGMENTS}",
)
OPEN_DRIFT: Final = Family(
    "trimtab_open_drift_checks",
    "gauge",
    ("pipeline",),
    "Checks since the drift that no promotion has ended began, its own among them; 0: none is open",
)
CHAMPION: Final = Family(
    "trimtab_champion_version", "gauge", ("pipeline",), "The version of the champion."
)
CHAMPION_PROMOTED: Final = Family(
    "trimtab_champion_promoted_timestamp_seconds",
    "gauge",
    ("pipeline",),
    "When the champion became the champion.",
)
CHAMPION_TRAINED: Final = Family(
    "trimtab_champion_trained_timestamp_seconds",
    "gauge",
    ("pipeline",),
    "When the champion was trained: the model's age counts from here, also after a rollback.",
)
CHAMPION_ERROR: Final = Family(
    "trimtab_champion_error",
    "gauge",
    ("pipeline", "metric"),
    "The champion's error on the newest batch that has targets, in the metric's unit; of accuracy "
    "the wrong share.",
)
PROMOTION_ERROR: Final = Family(
    "trimtab_champion_promotion_error",
    "gauge",
    ("pipeline", "metric"),
    "The champion's error on the rows held out at its promotion, by the same metric.",
)
PROMOTION_ERROR_BOUND: Final = Family(
    "trimtab_champion_promotion_error_bound",
    "gauge",
    ("pipeline", "metric", "bound"),
    "The lower and upper bound of that error's 95 % interval.",
)
CHECKS_ABOVE: Final = Family(
    "trimtab_champion_checks_above_interval",
    "gauge",
    ("pipeline",),
    "The newest checks in a row in which the champion's error lay above that interval, of the last "
    "10 that had rows enough to test it.",
)
REJECTIONS: Final = Family(
    "trimtab_rejections_in_a_row", "gauge", ("pipeline",), "Models rejected since the champion."
)
PUBLISHED: Final = Family(
    "trimtab_published_version",
    "gauge",
    ("pipeline",),
    "The newest version on the model repository.",
)
ALTERED: Final = Family(
    "trimtab_publication_changes",
    "gauge",
    ("pipeline",),
    "Files and tags of the newest publication that somebody else changed, as last seen.",
)
WATCHED: Final = Family(
    "trimtab_publication_seen_timestamp_seconds",
    "gauge",
    ("pipeline",),
    "When the model repository last answered the publisher's look at the newest publication.",
)
UNPUBLISHED: Final = Family(
    "trimtab_unpublished_promotions",
    "gauge",
    ("pipeline",),
    "Promoted versions later than the newest one on the model repository; "
    f"{MOST_UNPUBLISHED} stands for as many or more.",
)

# What the system is doing, from the store.

OPEN_LETTERS: Final = Family(
    "trimtab_dead_letters_open",
    "gauge",
    ("pipeline", "stage"),
    "Dead letters that nobody has replayed or dismissed; those of no known pipeline are of "
    "pipeline unknown.",
)
FOREIGN: Final = Family(
    "trimtab_foreign_open",
    "gauge",
    ("kind",),
    "Open dead letters of a message or a record that this system has not written, or of records "
    "that were removed.",
)
UNFINISHED: Final = Family(
    "trimtab_unfinished_events", "gauge", ("stage",), "Events that the stage has not settled."
)
UNDER_WAY: Final = Family(
    "trimtab_effects_under_way",
    "gauge",
    ("state",),
    "Work begun: in_hand, waiting for another event, for a later_try, or left by a worker.",
)
UNSENT: Final = Family(
    "trimtab_unsent_records", "gauge", (), "Records whose events are not with the broker."
)

UNREADABLE_EVENTS: Final = Family(
    "trimtab_unreadable_events",
    "gauge",
    (),
    "Records with events to be settled, and work begun, that this version cannot read; nobody does "
    "anything about them.",
)

# What the system is doing, from the broker.

ALIVE: Final = Family(
    "trimtab_part_alive",
    "gauge",
    ("part",),
    "Whether a stage's worker, beat or the sweep gave a sign of life lately, as trimtab status.",
)
LAST_SEEN: Final = Family(
    "trimtab_part_last_seen_timestamp_seconds",
    "gauge",
    ("part",),
    "The last sign of life: the newest of a stage's workers, beat's last tick, a sweep's end.",
)
QUEUE: Final = Family(
    "trimtab_queue_messages", "gauge", ("stage",), "Messages in the stage's queue."
)

# From both.

QUEUE_AGE: Final = Family(
    "trimtab_oldest_event_age_seconds",
    "gauge",
    ("stage",),
    "The time since the oldest event happened that the stage has not settled, whether it waits in "
    "the broker or in the store or is in hand; 0: none.",
)

# The exporter itself.

SOURCE_UP: Final = Family(
    "trimtab_source_up",
    "gauge",
    ("source",),
    "Whether the store and the broker answered in time. What comes from one that did not is left "
    "out, but for counters.",
)
SOURCE_SECONDS: Final = Family(
    "trimtab_source_read_seconds",
    "gauge",
    ("source",),
    "How long the answer took, or was waited for in vain.",
)

FAMILIES: Final[tuple[Family, ...]] = tuple(
    family for family in globals().copy().values() if isinstance(family, Family)
)


def label(value: str) -> str:
    """A value from data as a label: what cannot be sent is replaced, and what is long is cut."""
    return value.encode("utf-8", "replace").decode("utf-8")[:LONGEST_LABEL]


def exposed(samples: Samples) -> Iterator[Metric]:
    """The samples as the Prometheus client serves them."""
    for family in FAMILIES:
        if family in samples:
            yield _metric(family, samples[family].items())


def _metric(family: Family, values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.meaning, labels=family.labels)
    for labels, value in values:
        metric.add_metric(labels, value)
    return metric
