"""Who has every key but an operator's, a worker say, cannot ask for what only a person may.

A removed entry of the audit log is noticed.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from services.cli.asking import Asking, require_reason
from services.cli.audit import read_log
from services.cli.ingestion import take_in_file
from services.drift.ingested import check_batch
from services.publisher.publish import publish_model
from services.trainer.rollback import restore_model
from services.trainer.train import train_model
from shared.audit import (
    Request,
    append,
    digest,
    faults,
    head,
    require_asked_for,
    subject_of_batch,
    subject_of_rollback,
)
from shared.events import (
    BatchIngested,
    RetrainRequested,
    RollbackRequested,
    effect_id,
    first_event_fields,
)
from shared.failures import WillNotPass, WillPass
from shared.operators import OperatorKey, Operators
from shared.pipeline import ReferenceFile
from shared.records import AuditEntry, Batch, DeadLetter, ModelVersion
from shared.settings import SettingsError
from shared.stage import Resources
from shared.store import Store
from tests.asking import ada, never_asked, signed_reference
from tests.integration.plain_records import check_of, dead_letter
from tests.integration.publisher.bare import Bare
from tests.integration.publisher.promotions import promoted
from tests.keys import (
    AUTHENTICATOR,
    LISTED_AS_ADA,
    OPERATORS,
    STRANGER,
    STRANGERS_OPERATOR_KEY,
    authenticate,
)
from tests.sweeping import sweep_all

FIELDS = first_event_fields("air_quality", "a request")
ROLLBACK = RollbackRequested(**FIELDS, model_version=1, champion_version=2)
NOBODY_SIGNED = "no operator has signed a request for this"


def ask(resources: Resources, number: int = 1) -> AuditEntry:
    """An entry about some dead letter."""
    return ada(resources).ask("dismiss", "air_quality", "0" * 32, {"letter": str(number)}, "a test")


def signed_by_a_stranger(event: RollbackRequested, store: Store) -> AuditEntry:
    """An entry with the MAC of the system, as a worker could make it, signed with a key of its own.

    Its maker says that it is Ada's.
    """
    key = OperatorKey.read(SecretStr(STRANGERS_OPERATOR_KEY), never_asked)
    request = Request(
        "rollback", event.pipeline, event.trace_id, subject_of_rollback(event), "a reason"
    )
    return append(request, store, key, Operators(LISTED_AS_ADA))


# What workers do with a request.


class TestRollback:
    @pytest.fixture(autouse=True)
    def _two_versions(self, resources: Resources) -> None:
        for version in (1, 2):
            promoted(resources.store, version)

    def restore(self, event: RollbackRequested, resources: Resources) -> None:
        restore_model(event, resources.store, resources.settings)

    def test_without_a_request(self, resources: Resources) -> None:
        with pytest.raises(WillNotPass, match=f"rollback: {NOBODY_SIGNED}"):
            self.restore(ROLLBACK, resources)

    def test_with_the_number_of_no_entry(self, resources: Resources) -> None:
        with pytest.raises(WillNotPass, match=NOBODY_SIGNED):
            self.restore(ROLLBACK.model_copy(update={"request": 7}), resources)

    def test_signed_by_somebody_else(self, resources: Resources) -> None:
        entry = signed_by_a_stranger(ROLLBACK, resources.store)
        assert entry.operator == "ada"
        with pytest.raises(WillNotPass, match="entry 1 of the audit log: OPERATORS lists no key"):
            self.restore(ROLLBACK.model_copy(update={"request": 1}), resources)

    def test_signed_for_something_else(self, resources: Resources) -> None:
        other = ROLLBACK.model_copy(update={"model_version": 3})
        subject = subject_of_rollback(other)
        ada(resources).ask("rollback", "air_quality", other.trace_id, subject, "a test")
        ask(resources)
        for number in (1, 2):
            with pytest.raises(WillNotPass, match=f"entry {number} .* asks for something else"):
                self.restore(ROLLBACK.model_copy(update={"request": number}), resources)

    def test_a_signed_entry_that_was_changed(self, resources: Resources) -> None:
        subject = subject_of_rollback(ROLLBACK.model_copy(update={"model_version": 3}))
        ada(resources).ask("rollback", "air_quality", ROLLBACK.trace_id, subject, "a test")
        change = {"$set": {"subject": subject_of_rollback(ROLLBACK)}}
        resources.store.collection(AuditEntry).update_one({}, change)
        authenticate(resources.store)  # the attacker has EVENT_KEY
        with pytest.raises(WillNotPass, match="did not make its signature"):
            self.restore(ROLLBACK.model_copy(update={"request": 1}), resources)

    def test_without_operators_nothing_is_believed(self, resources: Resources) -> None:
        subject = subject_of_rollback(ROLLBACK)
        ada(resources).ask("rollback", "air_quality", ROLLBACK.trace_id, subject, "a test")
        settings = resources.settings.model_copy(update={"operators": None})
        with pytest.raises(WillNotPass, match="OPERATORS is not set"):
            restore_model(ROLLBACK.model_copy(update={"request": 1}), resources.store, settings)


def reference(resources: Resources, **changes: Any) -> tuple[BatchIngested, Batch]:
    """A batch that says that a person set it as the reference; nobody has asked for it."""
    event = BatchIngested(**FIELDS, sequence=1, rows=500, data="0" * 64, as_reference=True)
    batch = Batch(
        id=effect_id("ingest", event.event_id),
        pipeline="air_quality",
        trace_id=event.trace_id,
        recorded_at=datetime.now(UTC),
        outcome="ingested",
        sequence=1,
        rows=500,
        data="0" * 64,
        rows_received=500,
        source="file reference.csv",
        as_reference=True,
    )
    return event, batch.model_copy(update=changes)


class TestReference:
    def check(self, batch: Batch, event: BatchIngested, resources: Resources) -> None:
        resources.store.record(batch)
        pipeline = resources.pipelines["air_quality"]
        check_batch(event, pipeline, resources.store, resources.settings)

    def test_that_nobody_set(self, resources: Resources) -> None:
        event, batch = reference(resources)
        with pytest.raises(WillNotPass, match=f"reference set: {NOBODY_SIGNED}"):
            self.check(batch, event, resources)

    def test_of_other_rows_than_were_signed(self, resources: Resources) -> None:
        event, batch = reference(resources)
        signed = signed_reference(batch, resources.store)
        with pytest.raises(WillNotPass, match="asks for something else"):
            self.check(signed.model_copy(update={"data": "1" * 64}), event, resources)

    def test_an_old_request_for_a_new_batch(self, resources: Resources) -> None:
        event, batch = reference(resources)
        signed = signed_reference(batch, resources.store)
        again = signed.model_copy(update={"id": effect_id("ingest", "f" * 32)})
        with pytest.raises(WillNotPass, match="asks for something else"):
            self.check(again, event, resources)

    def test_an_ingestion_is_no_reference(self, resources: Resources) -> None:
        event, batch = reference(resources)
        subject = subject_of_batch(batch)
        entry = ada(resources).ask("ingest", "air_quality", batch.trace_id, subject, "a test")
        with pytest.raises(WillNotPass, match=r"asks for something else \(ingest, pipeline air_q"):
            self.check(batch.model_copy(update={"request": entry.number}), event, resources)

    def test_a_model_past_the_gate_without_a_request(self, resources: Resources) -> None:
        """An attacker who controls a drift worker could send this."""
        event, batch = reference(resources)
        resources.store.record(batch)
        resources.store.record(check_of(event, verdict="reference set", sequence=1))
        forged = RetrainRequested(**FIELDS, reason="reference_set", sequence=1)
        pipeline = resources.pipelines["air_quality"]
        with pytest.raises(WillNotPass, match=f"reference set: {NOBODY_SIGNED}"):
            train_model(forged, pipeline, resources.store, resources.settings)


def reference_of(resources: Resources, sequence: int, rows: int = 500) -> RetrainRequested:
    """All of a reference that Ada has set, up to the request for its model."""
    fields = first_event_fields("air_quality", "reference", sequence)
    event = BatchIngested(**fields, sequence=sequence, rows=rows, data="0" * 64, as_reference=True)
    _, batch = reference(
        resources,
        id=effect_id("ingest", event.event_id),
        trace_id=event.trace_id,
        sequence=sequence,
        rows=rows,
    )
    resources.store.record(signed_reference(batch, resources.store))
    resources.store.record(check_of(event, verdict="reference set", sequence=sequence))
    return RetrainRequested(**fields, reason="reference_set", sequence=sequence)


class TestServedOnce:
    def refused(self, event: RetrainRequested, resources: Resources, words: str) -> None:
        pipeline = resources.pipelines["air_quality"]
        with pytest.raises(WillNotPass, match=words):
            train_model(event, pipeline, resources.store, resources.settings)

    def test_a_reference_whose_model_was_made(self, resources: Resources) -> None:
        """Its model may be gone, but a rollback from it is there."""
        event = reference_of(resources, 1)
        promoted(resources.store, 1, request=2, request_digest="0" * 64)
        self.refused(event, resources, "entry 1 of the audit log cannot be used any more")

    def test_a_reference_under_another_number(self, resources: Resources) -> None:
        event = reference_of(resources, 1)
        resources.store.collection(Batch).update_one({}, {"$set": {"sequence": 4}})
        check = check_of(event, id="drift:again", verdict="reference set", sequence=4)
        resources.store.record(check)
        authenticate(resources.store)  # the attacker has EVENT_KEY
        again = event.model_copy(update={"event_id": "f" * 32, "sequence": 4})
        self.refused(again, resources, "asks for something else")

    def test_targets_that_came_with_it_later(self, resources: Resources) -> None:
        event = reference_of(resources, 1)
        resources.store.collection(Batch).update_one({}, {"$set": {"labels": "1" * 64}})
        authenticate(resources.store)
        self.refused(event, resources, "asks for something else")

    def test_a_request_for_another_system(self, resources: Resources) -> None:
        event = reference_of(resources, 1)
        other = Store(resources.store.database, STRANGER)
        document = other.collection(AuditEntry).find_one({})
        assert document
        other.collection(AuditEntry).delete_many({})
        other.database["batches"].delete_many({})
        _, batch = reference(resources)
        signed = signed_reference(batch, other)
        authenticate(resources.store)
        resources.store.record(signed)
        self.refused(event, resources, "log was signed for a system with another EVENT_KEY")

    def test_the_file_of_the_pipeline_once_there_are_models(self, resources: Resources) -> None:
        _, batch = reference(resources)
        named = {"reference": ReferenceFile(file=Path("reference.csv"))}
        pipeline = resources.pipelines["air_quality"].model_copy(update=named)
        assert require_asked_for(batch, pipeline, resources.store, resources.settings) is None
        promoted(resources.store, 1)
        with pytest.raises(WillNotPass, match=NOBODY_SIGNED):
            require_asked_for(batch, pipeline, resources.store, resources.settings)


# What commands do without the key.


def test_a_command_without_an_operators_key_says_so(resources: Resources) -> None:
    assert resources.settings.operator_key is None
    with pytest.raises(SettingsError, match=r"OPERATOR_KEY is not set\. This command signs"):
        Asking(resources)


def test_a_command_with_a_key_that_is_not_listed_does_nothing(
    resources: Resources, tmp_path: Any
) -> None:
    key = SecretStr(STRANGERS_OPERATOR_KEY)
    settings = resources.settings.model_copy(update={"operator_key": key})
    stranger = Resources(**(vars(resources) | {"settings": settings}))
    with pytest.raises(WillNotPass, match="may not ask for this: OPERATORS lists no key"):
        take_in_file(tmp_path / "rows.csv", Asking(stranger), "air_quality", "a test")
    assert head(resources.store).number == 0


# The log.


def test_entries_follow_each_other_whoever_writes_at_the_same_time(resources: Resources) -> None:
    with ThreadPoolExecutor(4) as writers:
        written = list(writers.map(lambda number: ask(resources, number), range(12)))
    assert sorted(entry.number for entry in written) == list(range(1, 13))
    assert list(faults(resources.store, resources.settings)) == []
    found = list(resources.store.find(AuditEntry, {}, oldest_by="number"))
    assert [entry.previous for entry in found[1:]] == [digest(entry) for entry in found[:-1]]
    assert head(resources.store).digest == digest(found[-1])


def told(resources: Resources) -> list[str]:
    sweep_all(resources)
    return [
        letter.reason for letter in resources.store.find(DeadLetter, {"kind": "foreign record"})
    ]


@pytest.mark.parametrize("number", [1, 2])
def test_a_removed_entry_is_missed(number: int, resources: Resources) -> None:
    for each in range(3):
        ask(resources, each)
    assert told(resources) == []
    resources.store.collection(AuditEntry).delete_one({"number": number})
    (reason,) = told(resources)
    assert f"entry {number + 1} of the audit log does not follow entry {number - 1}" in reason


def test_the_newest_entries_are_missed_by_the_records_that_name_them(resources: Resources) -> None:
    store, letter = resources.store, dead_letter("trainer:1")
    store.bury(letter)
    ask(resources)
    store.mark_letter(letter, "dismissed", ask(resources).number)
    store.collection(AuditEntry).delete_one({"number": 2})
    (reason,) = told(resources)
    assert (
        "the record trainer:1 names entry 2 of the audit log, and the newest is number 1" in reason
    )


def test_reordered_entries_are_noticed(resources: Resources) -> None:
    """By somebody who has EVENT_KEY too."""
    for each in range(3):
        ask(resources, each)
    entries = resources.store.collection(AuditEntry)
    for old, new in ((2, 99), (3, 2), (99, 3)):
        entries.update_one({"number": old}, {"$set": {"number": new}})
    authenticate(resources.store)
    found = list(faults(resources.store, resources.settings))
    assert any("entry 2 of the audit log does not follow entry 1" in fault for fault in found)
    assert any("did not make its signature" in fault for fault in found)


@pytest.mark.parametrize("field", ["because", "operator", "subject", "recorded_at", "action"])
def test_an_altered_entry_is_noticed(field: str, resources: Resources) -> None:
    """By somebody who has EVENT_KEY too."""
    ask(resources)
    others: dict[str, Any] = {
        "subject": {"letter": "another"},
        "recorded_at": datetime(2026, 1, 1, tzinfo=UTC),
        "action": "replay",
    }
    change = {"$set": {field: others.get(field, "another")}}
    resources.store.collection(AuditEntry).update_one({}, change)
    assert "was not written by this system" in " ".join(faults(resources.store, resources.settings))
    authenticate(resources.store)
    (fault,) = faults(resources.store, resources.settings)
    assert fault.startswith("entry 1 of the audit log: the key SHA256:")
    assert "did not make its signature" in fault


def test_an_operator_who_left_leaves_a_log_that_is_whole(resources: Resources) -> None:
    ask(resources)
    former = resources.settings.model_copy(update={"operators": f"-{OPERATORS}"})
    assert list(faults(resources.store, former)) == []
    forgotten = resources.settings.model_copy(update={"operators": LISTED_AS_ADA})
    (fault,) = faults(resources.store, forgotten)
    assert "entry 1 of the audit log: OPERATORS lists no key" in fault


def test_a_former_operator_asks_for_nothing(resources: Resources) -> None:
    former = resources.settings.model_copy(update={"operators": f"-{OPERATORS}"})
    with pytest.raises(WillNotPass, match="as that of a former operator"):
        ada(Resources(**(vars(resources) | {"settings": former})))


def test_a_log_without_its_end_is_another_than_a_tag_names(resources: Resources) -> None:
    """All records that name entries are gone as well, and somebody has begun the log anew."""
    store = resources.store
    ask(resources)
    event = promoted(store, 1)
    Bare.make(resources.settings.git_cache.parent / "models.git")
    outcome = publish_model(event, resources.pipelines["air_quality"], store, resources.settings)
    store.record(outcome.record)
    assert list(faults(store, resources.settings)) == []
    store.collection(AuditEntry).delete_many({})
    found = " ".join(faults(store, resources.settings))
    assert "names entry 1 of the audit log, and the newest is number 0" in found
    ask(resources, 7)
    (fault,) = faults(store, resources.settings)
    assert "names entry 1 of the audit log with another SHA-256" in fault


def test_the_model_says_who_asked_for_it(resources: Resources) -> None:
    """The MAC covers the number of the entry, so nobody without EVENT_KEY can change it."""
    promoted(resources.store, 1)
    model = resources.store.champion("air_quality")
    assert isinstance(model, ModelVersion)
    assert model.request is None
    changed = model.model_copy(update={"request": 1})
    document = changed.model_dump(by_alias=True)
    macs = AUTHENTICATOR.macs("models", document | {"outbox": []})
    assert macs["mac"] != AUTHENTICATOR.macs("models", model.model_dump(by_alias=True))["mac"]


def test_nobody_asks_in_the_name_of_another(resources: Resources) -> None:
    """Mallory is an operator, and has every key of a worker too."""
    mallory = OPERATORS.replace("ada", "mallory", 1)
    entry = ask(resources)
    settings = resources.settings.model_copy(update={"operators": mallory})
    (fault,) = faults(resources.store, settings)
    assert fault.endswith(f"OPERATORS does not list the key {entry.key} as that of ada")


def test_nothing_is_added_to_a_log_whose_end_is_not_genuine(resources: Resources) -> None:
    signed_by_a_stranger(ROLLBACK, resources.store)
    with pytest.raises(WillNotPass, match="the newest entry of the audit log is not genuine"):
        ask(resources)


def test_an_entry_that_was_replaced_is_not_named_in_a_commit(resources: Resources) -> None:
    Bare.make(resources.settings.git_cache.parent / "models.git")
    entry = ask(resources)
    event = promoted(resources.store, 1, request=1, request_digest=digest(entry))
    pipeline = resources.pipelines["air_quality"]
    resources.store.collection(AuditEntry).delete_one({})
    with pytest.raises(WillPass, match=r"v1 names entry 1 .* and this entry is missing"):
        publish_model(event, pipeline, resources.store, resources.settings)
    ask(resources, 7)
    with pytest.raises(WillPass, match=r"v1 names entry 1 .* and this entry is missing"):
        publish_model(event, pipeline, resources.store, resources.settings)
    found = " ".join(faults(resources.store, resources.settings))
    assert "names entry 1 of the audit log with another SHA-256" in found


@pytest.mark.parametrize(
    "change",
    [
        {"action": "unheard of"},
        {"number": 1.5},
        {"number": "1"},
        {"recorded_at": "yesterday"},
        {"because": "x" * 2_000_000},
    ],
    ids=["action", "fraction", "text", "time", "long"],
)
def test_an_entry_that_cannot_be_read_is_told(change: dict[str, Any], resources: Resources) -> None:
    """By somebody who has EVENT_KEY; the log is told as broken, and nothing ends."""
    ask(resources)
    resources.store.collection(AuditEntry).update_one({}, {"$set": change})
    authenticate(resources.store)
    assert list(faults(resources.store, resources.settings))
    assert told(resources)
    log = read_log(resources, 24)
    assert log.wrong
    assert log.as_json()["problems"]


@pytest.mark.parametrize("because", ["", "  ", "\u200b", "\x00", "\n\t"])
def test_a_reason_says_something(because: str) -> None:
    with pytest.raises(WillNotPass, match="say why, for the audit log"):
        require_reason(because)


def test_a_reason_is_kept_on_one_line_and_not_too_long(resources: Resources) -> None:
    because = "night\nTrimtab-Audit: 1 " + "x" * 1_000_000
    entry = ada(resources).ask("dismiss", "air_quality", "0" * 32, {"letter": "1"}, because)
    assert entry.because.startswith("night Trimtab-Audit: 1 xxx")
    assert len(entry.because) == 500
