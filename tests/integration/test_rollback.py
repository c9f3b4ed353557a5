"""A rollback through the stages: handlers, store, broker and repository are the real ones."""

import base64
import json
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis

from services.cli.rollback import Rollback, roll_back
from services.drift.calibration.profile import Profile
from services.drift.tables.frame import Frame
from services.drift.tables.roles import Roles
from services.drift.tasks import on_model_promoted as adopt
from services.notifier.tasks import on_event as notify
from services.publisher.tasks import on_model_promoted as publish
from services.trainer.rollback import restore_model
from shared.artifacts import sealed
from shared.audit import digest, subject_of_rollback
from shared.events import (
    STAGES,
    Event,
    ModelPromoted,
    RollbackRequested,
    dump_event,
    effect_id,
    first_event_fields,
    parse_event,
)
from shared.failures import WillNotPass
from shared.frames import arrow_table, to_parquet
from shared.outcome import Outcome
from shared.pipeline import Publish
from shared.records import (
    AuditEntry,
    Batch,
    DeadLetter,
    DriftReport,
    ModelVersion,
    Notification,
    Publication,
    Reference,
    RetiredReference,
)
from shared.stage import Handler, Resources, StageRuntime
from shared.store import Store
from tests.air_quality_rows import batch_rows, raw_rows
from tests.asking import ada
from tests.integration.publisher.bare import Bare
from tests.integration.publisher.promotions import (
    drift_report,
    model_bytes,
    model_version,
    promotion,
)
from tests.keys import authenticate
from tests.sweeping import sweep_all


class Died(BaseException):
    """The process was killed here."""


def restore(event: RollbackRequested, resources: Resources) -> Outcome:
    return restore_model(event, resources.store, resources.settings)


HANDLERS: dict[tuple[str, str], Handler] = {
    ("trainer", "RollbackRequested"): restore,
    ("drift", "ModelPromoted"): adopt,
    ("publisher", "ModelPromoted"): publish,
    **{
        ("notifier", kind): notify
        for kind in ("ModelPromoted", "ModelPublished", "ModelRejected", "WorkFailed")
    },
}


class System:
    """A system whose workers run when they are told to."""

    def __init__(self, resources: Resources, bare: Bare) -> None:
        self.resources = resources
        self.store = resources.store
        self.bare = bare
        self.handlers = dict(HANDLERS)
        self._redis = Redis.from_url(resources.settings.redis_url.get_secret_value())
        self._prefix = resources.settings.key_prefix

    def promote(self, version: int, **changes: Any) -> ModelVersion:
        """A version made by the trainer, taken up by all."""
        pipeline = self.resources.pipelines["air_quality"]
        rows = batch_rows(raw_rows(20 + version), pipeline)
        window = self.store.put_blob(to_parquet(rows))
        key = self.resources.settings.model_signing_key
        assert key
        data = model_bytes(version)
        plots = {
            f"plots/predictions-{theme}.png": self.store.put_blob(f"{theme} {version}".encode())
            for theme in ("light", "dark")
        }
        fields = {"window": window, "plots": plots, **changes}
        model = sealed(model_version(version, **fields), key)
        self.store.put_blob(data)
        self.store.record(drift_report(version))
        event = promotion(model).model_copy(update={"window_rows": len(rows)})
        self.store.record(model, [event] if model.decision == "promoted" else [])
        if model.decision == "promoted":
            self.resources.broker.send(event)
            self.store.mark_sent(model)
        self.work()
        return model

    def ask(self, version: int) -> Rollback:
        """What the command does, without a wait."""
        return roll_back(ada(self.resources), "air_quality", version, "a test", wait_seconds=0)

    def work(self) -> int:
        """Handle every message that waits in a queue, and those that follow; returns how many."""
        handled = 0
        while True:
            messages = [
                (stage, raw)
                for stage in STAGES
                if (raw := self._redis.rpop(f"{self._prefix}{stage}"))
            ]
            if not messages:
                return handled
            for stage, raw in messages:
                assert isinstance(raw, bytes)
                _, arguments, _ = json.loads(base64.b64decode(json.loads(raw)["body"]))
                event = parse_event(arguments["event"])
                handler = self.handlers[stage, event.type]
                StageRuntime(stage, self.resources).handle(dump_event(event), handler)
                handled += 1

    def lose_messages(self) -> None:
        for stage in STAGES:
            self._redis.delete(f"{self._prefix}{stage}")

    def sweep(self) -> int:
        """A sweep some time later."""
        for name in ("models", "references", "publications", "work"):
            documents = self.store.database[name]
            for document in documents.find():
                earlier = {
                    field: document[field] - timedelta(minutes=1)
                    for field in ("recorded_at", "updated_at", "outbox_sent_at", "lease_until")
                    if document.get(field)
                }
                documents.update_one({"_id": document["_id"]}, {"$set": earlier})
        authenticate(self.store)
        return sweep_all(self.resources)

    def champion(self) -> ModelVersion:
        champion = self.store.champion("air_quality")
        assert champion
        return champion

    def tree(self, commit: str) -> dict[str, str]:
        """Path -> blob id."""
        rows = self.bare.git("ls-tree", "-r", commit).splitlines()
        return {path: about.split()[2] for about, _, path in (row.partition("\t") for row in rows)}

    def published(self, version: int) -> Publication:
        (found,) = self.store.find(Publication, {"model_version": version})
        return found

    def messages(self) -> list[str]:
        return [each.title for each in self.store.find(Notification, {}, oldest_by="recorded_at")]


@cache
def profile_bytes(rows: bytes, roles: Roles) -> bytes:
    """A reference's profile; all tests have the same rows, and a fit takes a second."""
    return Profile.fit(Frame(arrow_table(rows)), roles=roles).to_bytes()


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    return Bare.make(tmp_path / "models.git")


@pytest.fixture
def system(resources: Resources, bare: Bare, monkeypatch: pytest.MonkeyPatch) -> System:
    """Three champions, one after the other, and a rejected fourth version."""

    def fitted_once(data: str, roles: Roles, store: Store) -> str:
        return store.put_blob(profile_bytes(store.blob(data), roles))

    monkeypatch.setattr("services.drift.reference.store_profile", fitted_once)
    system = System(resources, bare)
    for version in (1, 2, 3):
        system.promote(version)
    system.promote(4, decision="rejected", reason="worse than v3")
    return system


def assert_restored(system: System, version: int, original: int, replaced: int) -> None:
    """One version, one commit, one reference and one message make the original the champion."""
    champion = system.champion()
    assert (champion.version, champion.restores, champion.champion_version) == (
        version,
        original,
        replaced,
    )
    assert system.store.blob(champion.model) == model_bytes(original)
    first = system.published(original)
    now = system.published(version)
    assert system.tree(now.commit) == system.tree(first.commit)
    subject = f"Restore air_quality v{original} as v{version}: a person rolled back"
    assert system.bare.subjects().count(subject) == 1
    (reference,) = system.store.find(Reference, {"model_version": version})
    (before,) = system.store.find(Reference, {"model_version": original})
    kept = {"data", "profile", "rows", "up_to_sequence"}
    assert reference.model_dump(include=kept) == before.model_dump(include=kept)
    assert system.store.reference("air_quality") == reference
    title = f"air_quality: model v{original} is the champion again (as v{version})"
    assert system.messages().count(title) == 1
    assert system.resources.work.all() == []


def test_an_earlier_champion_is_restored_everywhere(system: System) -> None:
    asked = system.ask(1)
    assert (asked.state, asked.restores, asked.model_version) == ("stored", 1, None)
    system.work()
    assert_restored(system, version=5, original=1, replaced=3)


def test_the_record_says_what_happened_and_keeps_what_is_known_of_the_model(
    system: System,
) -> None:
    system.store.record(
        Batch(
            _id="ingest:9",
            pipeline="air_quality",
            trace_id="0" * 32,
            recorded_at=system.champion().recorded_at,
            outcome="ingested",
            sequence=9,
            rows_received=1,
            source="a test",
        )
    )
    (original,) = system.store.find(ModelVersion, {"version": 1})
    system.ask(1)
    system.work()
    restored = system.champion()
    same = {"metrics", "model", "model_bytes", "window", "plots", "held_out_losses", "drift_report"}
    assert restored.model_dump(include=same) == original.model_dump(include=same)
    assert restored.sequence == 9
    assert restored.reason == "a person rolled back from v3 to v1"
    assert restored.lineage == original.lineage | {"reason": "rollback"}
    (event,) = system.store.events_of(restored)
    assert isinstance(event, ModelPromoted)
    (before,) = system.store.events_of(original)
    assert isinstance(before, ModelPromoted)
    assert (event.restores, event.replaced_version) == (1, 3)
    assert (event.window, event.window_rows, event.sequence) == (
        before.window,
        before.window_rows,
        before.sequence,
    )


def test_the_commit_names_the_new_version_and_is_the_newest(system: System) -> None:
    system.ask(2)
    system.work()
    message = system.bare.git("log", "-1", "--format=%B", "main").splitlines()
    (entry,) = system.store.find(AuditEntry, {})
    assert message == [
        "Restore air_quality v2 as v5: a person rolled back",
        "",
        "a person rolled back from v3 to v2",
        "",
        "mae 6.457, mse 112.2, r2_score 0.8125",
        "",
        f"Trimtab-Asked-By: ada ({entry.key})",
        "Trimtab-Because: a test",
        f"Trimtab-Audit: 1 {digest(entry)}",
        "Trimtab-Model: air_quality/v5",
        f"Trimtab-Run: {system.champion().trace_id}",
    ]
    tag = system.bare.git("for-each-ref", "--format=%(contents)", "refs/tags/air_quality/v5")
    assert tag.splitlines()[-1] == f"Trimtab-Audit: 1 {digest(entry)}"
    assert system.bare.refs()["refs/tags/air_quality/v5"] == system.published(5).commit


def test_asked_twice_it_is_one_rollback(system: System) -> None:
    system.ask(1)
    system.ask(1)
    assert len(system.resources.work.all()) == 1
    system.work()
    assert list(system.store.find(DeadLetter, {})) == []
    assert_restored(system, version=5, original=1, replaced=3)
    commits = len(system.bare.subjects())
    again = system.ask(1)
    assert (again.state, again.model_version) == ("in force before", 5)
    assert again.commit == system.published(5).commit
    assert system.work() == 0
    assert system.sweep() == 0
    assert len(system.bare.subjects()) == commits
    assert system.champion().version == 5


def test_the_champion_itself_needs_no_rollback(system: System) -> None:
    reached = system.ask(3)
    assert (reached.state, reached.model_version) == ("in force before", 3)
    assert system.resources.work.all() == []


def test_killed_before_the_message_is_sent(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(_event: Event) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(system.resources.broker, "send", die)
        with pytest.raises(Died):
            system.ask(1)
    assert system.work() == 0
    assert system.sweep() == 1
    system.work()
    assert_restored(system, version=5, original=1, replaced=3)


def test_the_broker_is_out_of_reach(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_event: Event) -> None:
        raise ConnectionError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(system.resources.broker, "send", refuse)
        assert system.ask(1).state == "stored"
    system.sweep()
    system.work()
    assert_restored(system, version=5, original=1, replaced=3)


def test_the_broker_loses_the_message(system: System) -> None:
    system.ask(1)
    system.lose_messages()
    assert system.sweep() == 1
    system.work()
    assert_restored(system, version=5, original=1, replaced=3)


def test_killed_after_the_record_is_written(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_event: Event) -> None:
        raise Died

    system.ask(1)
    with monkeypatch.context() as patch:
        patch.setattr(system.resources.broker, "send", die)
        with pytest.raises(Died):
            system.work()
    assert system.champion().restores == 1
    assert system.published(3).commit == system.bare.refs()["refs/heads/main"]
    assert system.sweep() > 0
    system.work()
    system.sweep()
    assert_restored(system, version=5, original=1, replaced=3)


def test_killed_after_the_push(system: System) -> None:
    def publish_and_die(event: ModelPromoted, resources: Resources) -> Outcome:
        publish(event, resources)
        raise Died

    system.handlers["publisher", "ModelPromoted"] = publish_and_die
    system.ask(1)
    with pytest.raises(Died):
        system.work()
    assert len(system.bare.subjects()) == 4
    system.handlers["publisher", "ModelPromoted"] = publish
    system.sweep()
    system.work()
    assert_restored(system, version=5, original=1, replaced=3)
    assert system.published(5).already_there


def test_the_champion_has_changed_since_it_was_asked_for(system: System) -> None:
    system.ask(1)
    system.lose_messages()
    system.promote(5)
    system.sweep()
    system.work()
    assert system.champion().version == 5
    (letter,) = system.store.find(DeadLetter, {})
    assert "v3 was the champion" in letter.reason
    assert "v5 is now" in letter.reason
    assert "air_quality: trainer gave up on RollbackRequested" in system.messages()
    system.ask(1)
    system.work()
    assert_restored(system, version=6, original=1, replaced=5)


def test_a_training_that_takes_the_version_number_first(system: System) -> None:
    def overtaken(event: RollbackRequested, resources: Resources) -> Outcome:
        outcome = restore(event, resources)
        other = model_version(5, id="trainer:other", decision="rejected")
        resources.store.record(other)
        system.handlers["trainer", "RollbackRequested"] = restore
        return outcome

    system.handlers["trainer", "RollbackRequested"] = overtaken
    system.ask(1)
    system.work()
    assert system.champion().version == 3
    system.sweep()
    system.work()
    assert_restored(system, version=6, original=1, replaced=3)


def test_a_rollback_to_a_restoration_restores_its_original(system: System) -> None:
    system.ask(1)
    system.work()
    system.ask(3)
    system.work()
    assert_restored(system, version=6, original=3, replaced=5)
    system.ask(5)
    system.work()
    champion = system.champion()
    assert (champion.version, champion.restores) == (7, 1)
    assert system.tree(system.published(7).commit) == system.tree(system.published(1).commit)


def test_asked_again_after_a_stage_gave_up(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is handled while the command sends it, as by a worker that is quick."""
    keyless = system.resources.settings.model_copy(update={"model_signing_key": None})
    system.handlers["trainer", "RollbackRequested"] = lambda event, resources: restore_model(
        event, resources.store, keyless
    )
    send = system.resources.broker.send

    def send_and_work(event: Event) -> None:
        send(event)
        system.work()

    with monkeypatch.context() as patch:
        patch.setattr(system.resources.broker, "send", send_and_work)
        with pytest.raises(WillNotPass, match=r"trainer gave up.*MODEL_SIGNING_KEY is not set"):
            system.ask(1)
        assert system.champion().version == 3
        system.handlers["trainer", "RollbackRequested"] = restore
        assert system.ask(1).state == "done"
    assert_restored(system, version=5, original=1, replaced=3)


def test_the_files_are_those_of_the_first_publication_whatever_the_definition_says_now(
    system: System,
) -> None:
    pipelines = system.resources.pipelines
    pipeline = pipelines["air_quality"]
    source = pipeline.source.model_copy(update={"resource": "another"})
    pipelines["air_quality"] = pipeline.model_copy(
        update={
            "source": source,
            "training": pipeline.training.model_copy(update={"target": "pollutant_max"}),
        }
    )
    system.store.collection(DriftReport).delete_many({})
    system.ask(1)
    system.work()
    assert_restored(system, version=5, original=1, replaced=3)


def test_files_of_others_stay_as_they_are(system: System) -> None:
    system.bare.commit({"LICENSE": b"free\n"})
    system.ask(1)
    system.work()
    first, now = (system.tree(system.published(version).commit) for version in (1, 5))
    assert now.pop("LICENSE")
    assert now == first


def test_a_repository_that_has_not_the_first_commit_gets_the_same_files(
    system: System, tmp_path: Path
) -> None:
    first = system.tree(system.published(1).commit)
    system.bare.path.rename(tmp_path / "old.git")
    Bare.make(system.bare.path)
    system.ask(1)
    system.work()
    assert system.tree(system.published(5).commit) == first


def test_another_folder_on_the_branch_gets_the_same_files(system: System) -> None:
    pipelines = system.resources.pipelines
    pipelines["air_quality"] = pipelines["air_quality"].model_copy(
        update={"publish": Publish(directory="india")}
    )
    system.ask(1)
    system.work()
    first, now = (system.tree(system.published(version).commit) for version in (1, 5))
    assert {path: blob for path, blob in now.items() if path.startswith("india/")} == {
        f"india/{path}": blob for path, blob in first.items()
    }


def test_without_its_old_reference_the_training_window_is_the_reference(system: System) -> None:
    (original,) = system.store.find(ModelVersion, {"version": 1})
    system.store.collection(Reference).delete_many({"model_version": 1})
    system.ask(1)
    system.work()
    reference = system.store.reference("air_quality")
    assert reference
    assert (reference.data, reference.model_version) == (original.window, 5)
    assert (reference.rows, reference.up_to_sequence) == (126, original.sequence)
    assert reference.profile


def test_the_reference_that_a_rollback_ends_was_ended_by_no_drift(system: System) -> None:
    system.ask(1)
    system.work()
    retired = list(system.store.find(RetiredReference, {}, oldest_by="version"))
    assert [each.version for each in retired] == [1, 2, 3]
    assert (retired[1].drift_score, retired[2].drift_score) == (0.33, None)
    assert retired[2].feature_drifts == {}


def test_references_follow_the_order_of_promotions_not_of_messages(system: System) -> None:
    """The message of the promotion that the rollback undoes comes after that of the rollback."""
    (third,) = system.store.find(ModelVersion, {"version": 3})
    fifth = model_version(5, window=third.window)
    late = promotion(fifth)
    system.store.put_blob(model_bytes(5))
    key = system.resources.settings.model_signing_key
    assert key
    system.store.record(sealed(fifth, key), [late])
    system.ask(1)
    system.work()
    assert system.champion().version == 6
    reference = system.store.reference("air_quality")
    assert reference
    assert reference.model_version == 3
    system.sweep()
    system.work()
    assert_restored(system, version=6, original=1, replaced=5)
    references = system.store.find(Reference, {}, oldest_by="version")
    assert [each.model_version for each in references] == [1, 2, 3, 5, 6]


@pytest.mark.parametrize(
    ("version", "said"),
    [(4, r"v4 .* never was the champion.*worse than v3"), (9, "no model v9; `trimtab models`")],
)
def test_what_never_was_the_champion_cannot_be_restored(
    system: System, version: int, said: str
) -> None:
    with pytest.raises(WillNotPass, match=said):
        system.ask(version)
    assert system.resources.work.all() == []


def test_a_model_whose_bytes_are_gone_cannot_be_restored(system: System) -> None:
    (original,) = system.store.find(ModelVersion, {"version": 1})
    system.store.database["blobs.files"].delete_many({"filename": original.model})
    with pytest.raises(WillNotPass, match=r"v1 .* cannot be restored.*RETENTION_DAYS"):
        system.ask(1)


def test_a_model_that_was_not_sealed_with_this_key_is_not_restored(system: System) -> None:
    other = system.resources.settings.model_copy(
        update={"model_signing_key": SecretStr("another key of 16 letters")}
    )
    event = asked_for(system, 1, 3)
    with pytest.raises(WillNotPass, match="v1 is not restored: the seal"):
        restore_model(event, system.store, other)
    assert system.store.get(ModelVersion, effect_id("trainer", event.event_id)) is None


def asked_for(system: System, model: int, champion: int) -> RollbackRequested:
    """A rollback that an operator has signed for."""
    event = RollbackRequested(
        **first_event_fields("air_quality", "rollback", model, champion),
        model_version=model,
        champion_version=champion,
    )
    subject = subject_of_rollback(event)
    entry = ada(system.resources).ask("rollback", "air_quality", event.trace_id, subject, "a test")
    return event.model_copy(update={"request": entry.number})
