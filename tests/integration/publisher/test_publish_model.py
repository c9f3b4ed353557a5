"""The handler: from a promotion in the store to a commit, a record and an event."""

import json
import re
import subprocess
import sys

import pytest
from pydantic import SecretStr

from services.publisher.publish import publish_model
from shared.artifacts import sha256
from shared.events import ModelPromoted, ModelPublished, effect_id
from shared.failures import NotYet, WillNotPass
from shared.outcome import Outcome
from shared.pipeline import Pipeline, Publish
from shared.records import DeadLetter, Publication
from shared.settings import Settings
from shared.store import Store
from tests.integration.publisher.bare import Bare
from tests.integration.publisher.promotions import model_bytes, promoted
from tests.keys import authenticate


def record_of(outcome: Outcome) -> Publication:
    assert isinstance(outcome.record, Publication)
    return outcome.record


def published(event: ModelPromoted, pipeline: Pipeline, store: Store, settings: Settings) -> None:
    """Handle an event and keep its record, as the stage runtime does."""
    outcome = publish_model(event, pipeline, store, settings)
    store.record(outcome.record, outcome.events)


def test_a_promotion_becomes_a_commit_a_record_and_an_event(
    bare: Bare, store: Store, settings: Settings, air_quality: Pipeline
) -> None:
    event = promoted(store, 3)
    outcome = publish_model(event, air_quality, store, settings)
    record, (told,) = record_of(outcome), outcome.events
    head = bare.refs()["refs/heads/main"]
    assert record.id == effect_id("publisher", event.event_id)
    assert (record.model_version, record.commit, record.branch) == (3, head, "main")
    assert (record.tag, record.url, record.already_there) == ("air_quality/v3", None, False)
    assert record.repository == str(bare.path)
    assert isinstance(told, ModelPublished)
    assert (told.model_version, told.commit, told.branch, told.url) == (3, head, "main", None)
    assert told.trace_id == event.trace_id
    assert bare.git("log", "-1", "--format=%B", "main").splitlines() == [
        "Publish air_quality v3: drift 0.330 over 0.1",
        "",
        "mean absolute error 6.457, not worse than before",
        "",
        "mae 6.457 (before: 6.971), mse 112.2 (before: 130.5), r2_score 0.8125",
        "",
        "Trimtab-Model: air_quality/v3",
        f"Trimtab-Run: {event.trace_id}",
    ]


def test_a_commit_names_nobody_closes_no_issue_and_stops_no_run(
    bare: Bare, store: Store, settings: Settings, air_quality: Pipeline
) -> None:
    reason = "@octocat\n\nfixes #12 [skip ci] https://h/o/r/issues/1\n\nCo-authored-by: a\x1b[0m"
    publish_model(promoted(store, 3, reason=reason), air_quality, store, settings)
    message = bare.git("log", "-1", "--format=%B", "main")
    assert "octocat fixes #" in message
    assert not re.search(r"@\w|#\d|\[skip|://|\x1b", message)
    trailers = bare.git("log", "-1", "--format=%(trailers:only,keyonly)", "main")
    assert trailers.split() == ["Trimtab-Model", "Trimtab-Run"]


def test_the_committer_is_a_setting(
    bare: Bare, store: Store, settings: Settings, air_quality: Pipeline
) -> None:
    known = {"git_committer_name": "Ärger, Inc", "git_committer_email": "models@example.org"}
    publish_model(promoted(store, 3), air_quality, store, settings.model_copy(update=known))
    who = "Ärger, Inc <models@example.org>"
    assert bare.git("log", "-1", "--format=%an <%ae>, %cn <%ce>", "main") == f"{who}, {who}"
    bare.git("fsck", "--strict")


@pytest.mark.parametrize("branch", ["müll/+#1", "a@b", "{x}", "a'\"$(b);&|"])
def test_any_branch_that_git_takes_can_be_published_to(
    bare: Bare, store: Store, settings: Settings, air_quality: Pipeline, branch: str
) -> None:
    place = air_quality.publish.model_copy(update={"branch": branch})
    pipeline = air_quality.model_copy(update={"publish": place})
    for version in (3, 4):
        published(promoted(store, version), pipeline, store, settings)
    assert len(bare.subjects(f"refs/heads/{branch}")) == 2


def test_the_files_on_the_branch_are_those_of_the_manifest(
    bare: Bare, store: Store, settings: Settings, air_quality: Pipeline
) -> None:
    publish_model(promoted(store, 3), air_quality, store, settings)
    files = bare.files()
    manifest = json.loads(files.pop("manifest.json"))
    assert {name: sha256(content) for name, content in files.items()} == {
        name: about["sha256"] for name, about in manifest["files"].items()
    }
    assert files["model.joblib"] == model_bytes(3)
    assert json.loads(files["drift_report.json"])["drift_score"] == 0.33


def test_the_same_event_again_gives_the_same_commit_and_the_same_event(
    bare: Bare, store: Store, settings: Settings, air_quality: Pipeline
) -> None:
    event = promoted(store, 3)
    first = publish_model(event, air_quality, store, settings)
    again = publish_model(event, air_quality, store, settings)
    assert record_of(again).already_there
    assert record_of(again).commit == record_of(first).commit
    assert again.events[0].event_id == first.events[0].event_id
    assert len(bare.subjects()) == 1


def test_a_pipeline_publishes_to_its_own_branch_and_directory(
    bare: Bare, store: Store, settings: Settings, air_quality: Pipeline
) -> None:
    place = Publish(branch="models", directory="india/air")
    pipeline = air_quality.model_copy(update={"publish": place})
    publish_model(promoted(store, 3), pipeline, store, settings)
    assert set(bare.files("models")) == {
        f"india/air/{name}"
        for name in (
            "README.md",
            "drift_report.json",
            "manifest.json",
            "metrics.json",
            "model.joblib",
        )
    }


def test_a_report_that_is_not_kept_any_more_leaves_no_old_one_behind(
    bare: Bare, store: Store, settings: Settings, air_quality: Pipeline
) -> None:
    published(promoted(store, 1), air_quality, store, settings)
    assert "drift_report.json" in bare.files()
    published(promoted(store, 2, drift_report=""), air_quality, store, settings)
    assert set(bare.files()) == {"README.md", "manifest.json", "metrics.json", "model.joblib"}


def test_a_model_waits_for_the_champion_before_it(
    bare: Bare, store: Store, settings: Settings, air_quality: Pipeline
) -> None:
    first, third = promoted(store, 1), promoted(store, 3)
    promoted(store, 2, decision="rejected")
    promoted(store, 2, pipeline="parcels", id="trainer:parcels")
    with pytest.raises(NotYet) as wait:
        publish_model(third, air_quality, store, settings)
    assert wait.value.effect == effect_id("publisher", first.event_id)
    assert bare.refs() == {}
    published(first, air_quality, store, settings)
    published(third, air_quality, store, settings)
    assert [subject.split(":")[0] for subject in bare.subjects()] == [
        "Publish air_quality v3",
        "Publish air_quality v1",
    ]


def test_bytes_that_were_not_sealed_with_this_key_are_not_published(
    bare: Bare, store: Store, settings: Settings, air_quality: Pipeline
) -> None:
    event = promoted(store, 1, seal="0" * 64)
    with pytest.raises(WillNotPass, match=r"v1 is not published.*MODEL_SIGNING_KEY"):
        publish_model(event, air_quality, store, settings)
    assert bare.refs() == {}


def test_a_model_that_is_too_large_is_not_pushed(
    bare: Bare, store: Store, settings: Settings, air_quality: Pipeline
) -> None:
    pipeline = air_quality.model_copy(update={"publish": Publish(max_file_bytes=1_000)})
    with pytest.raises(WillNotPass, match=r"model\.joblib has .* publish\.max_file_bytes"):
        publish_model(promoted(store, 1), pipeline, store, settings)
    assert bare.refs() == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_repository": None}, "MODEL_REPOSITORY is not set"),
        (
            {
                "model_repository": "http://models.example/m.git",
                "github_token": SecretStr("hidden"),
            },
            "in the clear",
        ),
    ],
)
def test_a_wrong_setting_is_named(
    store: Store,
    settings: Settings,
    air_quality: Pipeline,
    changes: dict[str, object],
    said: str,
) -> None:
    with pytest.raises(WillNotPass, match=said) as refusal:
        publish_model(promoted(store, 1), air_quality, store, settings.model_copy(update=changes))
    assert "hidden" not in str(refusal.value)


def test_a_model_that_the_store_does_not_have(
    store: Store, settings: Settings, air_quality: Pipeline
) -> None:
    event = promoted(store, 1).model_copy(update={"model_version": 9})
    store.collection(Publication).insert_one(
        {"_id": effect_id("publisher", promoted(store, 1).event_id), "outbox": []}
    )
    authenticate(store)
    with pytest.raises(WillNotPass, match="no model v9 of air_quality"):
        publish_model(event, air_quality, store, settings)


def test_the_worker_needs_no_numerical_library() -> None:
    program = (
        "import sys; import services.publisher.tasks; "
        "print({'pandas', 'numpy', 'scipy', 'sklearn', 'pyarrow', 'joblib'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_rejected_model_is_not_published_whoever_asks(
    bare: Bare, store: Store, settings: Settings, air_quality: Pipeline
) -> None:
    forged = promoted(store, 1, decision="rejected", reason="worse than the champion")
    with pytest.raises(WillNotPass, match="v1 of air_quality was rejected: worse than"):
        publish_model(forged, air_quality, store, settings)
    assert bare.refs() == {}


def test_a_model_that_was_refused_is_not_published_after_its_successor(
    bare: Bare, store: Store, settings: Settings, air_quality: Pipeline
) -> None:
    refused = promoted(store, 1)
    store.bury(letter_of(refused))
    published(promoted(store, 2), air_quality, store, settings)
    with pytest.raises(WillNotPass, match="air_quality/v2, which took the place of"):
        publish_model(refused, air_quality, store, settings)
    assert bare.files()["model.joblib"] == model_bytes(2)


def letter_of(event: ModelPromoted) -> DeadLetter:
    return DeadLetter(
        id=effect_id("publisher", event.event_id),
        pipeline=event.pipeline,
        trace_id=event.trace_id,
        recorded_at=event.occurred_at,
        stage="publisher",
        kind=event.type,
        reason="the repository refuses the push",
        message=event.model_dump(mode="json"),
        attempts=1,
    )
