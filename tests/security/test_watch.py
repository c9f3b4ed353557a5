"""Somebody who may push changes what we published: people are told once, and status says so."""

import os
import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from services.cli.embedded.servers import Mongo, Valkey
from services.cli.status import status
from services.exporter import metrics
from services.exporter.pipelines import PipelineFigures
from services.ingest.schedule import beat_schedule
from services.notifier.message import altered, as_text
from services.publisher import repository as module
from services.publisher.isolated_git import Limits, _run_within
from services.publisher.publish import publish_model
from services.publisher.watch import in_one_text, watch_publications
from shared.authentication import Unauthentic
from shared.celery_app import celery_app
from shared.events import PublicationAltered
from shared.failures import WillPass
from shared.pipeline import Pipeline, Publish
from shared.records import Alteration, Publication
from shared.settings import Settings
from shared.stage import Resources
from shared.store import Store
from shared.watch import watch_of
from tests.conftest import AIR_QUALITY
from tests.e2e.conftest import wait_for
from tests.integration.publisher.bare import Bare, git
from tests.integration.publisher.promotions import promoted
from tests.integration.publisher.smart_http import serving
from tests.security.test_signatures import make_key
from tests.worker_processes import started


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    return Bare.make(tmp_path / "models.git")


def published(resources: Resources, version: int = 1, **changes: Any) -> Publication:
    """A model, published as the publisher does it."""
    store = resources.store
    event = promoted(store, version, **changes)
    pipeline = resources.pipelines["air_quality"]
    outcome = publish_model(event, pipeline, store, resources.settings)
    store.record(outcome.record, outcome.events)
    assert isinstance(outcome.record, Publication)
    return outcome.record


def told(store: Store) -> list[PublicationAltered]:
    """What people are told of it, in the order of time."""
    records = store.find(Alteration, {}, oldest_by="recorded_at")
    events = [event for record in records for event in store.events_of(record)]
    return [event for event in events if isinstance(event, PublicationAltered)]


def seen(resources: Resources) -> list[str]:
    watch_publications(resources)
    found = watch_of(resources.store, "air_quality")
    assert found
    assert found.failure is None, found.failure
    return found.changes


def problems(resources: Resources) -> list[str]:
    listed: list[str] = status(resources)["problems"]
    return [problem for problem in listed if "somebody changed" in problem]


def test_what_is_as_it_was_published_is_not_told(bare: Bare, resources: Resources) -> None:
    published(resources)
    assert seen(resources) == []
    bare.commit({"notes.txt": b"of another person"}, times=60)
    assert seen(resources) == []
    assert told(resources.store) == []
    assert problems(resources) == []


def test_model_and_manifest_replaced_together(bare: Bare, resources: Resources) -> None:
    first = published(resources)
    bare.commit({"model.joblib": b"theirs", "manifest.json": b"{}"})
    assert seen(resources) == [
        "manifest.json on main is not the file that was published.",
        "model.joblib on main is not the file that was published.",
    ]
    (event,) = told(resources.store)
    assert (event.model_version, event.commit) == (1, first.commit)
    assert "model.joblib on main is not the file" in event.reason
    text = as_text(altered(event))
    assert first.commit in text
    assert f"git revert {first.commit}..origin/main, and push main" in text
    found = status(resources)
    assert found["exit_code"] == 1
    assert len(problems(resources)) == 2


def test_people_are_told_once_of_the_same_and_again_of_more(
    bare: Bare, resources: Resources
) -> None:
    published(resources)
    bare.commit({"model.joblib": b"theirs"})
    for _ in range(3):
        seen(resources)
    bare.commit({"unrelated": b"1"}, times=3)
    seen(resources)
    assert len(told(resources.store)) == 1
    bare.commit({"manifest.json": b"{}"})
    seen(resources)
    assert len(told(resources.store)) == 2


def test_it_is_over_when_all_is_as_published_again(bare: Bare, resources: Resources) -> None:
    first = published(resources)
    bare.commit({"model.joblib": b"theirs"})
    assert seen(resources)
    bare.git("update-ref", "refs/heads/main", first.commit)
    assert seen(resources) == []
    assert problems(resources) == []
    assert len(told(resources.store)) == 1


def test_the_same_change_after_it_was_mended_is_told_again(
    bare: Bare, resources: Resources
) -> None:
    first = published(resources)
    for _ in range(2):
        bare.commit({"model.joblib": b"theirs"})
        assert seen(resources)
        bare.git("update-ref", "refs/heads/main", first.commit)
        assert seen(resources) == []
    assert len(told(resources.store)) == 2


def test_a_pipeline_that_publishes_elsewhere_now_has_nothing_to_look_at(
    bare: Bare, resources: Resources
) -> None:
    published(resources)
    bare.commit({"model.joblib": b"theirs"})
    assert seen(resources)
    pipeline = resources.pipelines["air_quality"]
    moved = pipeline.model_copy(update={"publish": Publish(branch="models")})
    watch_publications(replace(resources, pipelines={"air_quality": moved}))
    assert watch_of(resources.store, "air_quality") is None
    assert problems(resources) == []


def test_a_file_that_was_put_beside_ours_or_taken_away(bare: Bare, resources: Resources) -> None:
    published(resources)
    bare.git("symbolic-ref", "HEAD", "refs/heads/main")
    tree = bare.git("ls-tree", "main").splitlines()
    kept = [line for line in tree if not line.endswith("\tmetrics.json")]
    made = git(bare.path, "mktree", stdin="\n".join([*kept, ""]).encode()).decode().strip()
    commit = bare.git("commit-tree", made, "-p", "main", "-m", "less")
    bare.git("update-ref", "refs/heads/main", commit)
    bare.commit({"plots/confusion-dark.png": b"theirs"})
    assert seen(resources) == [
        "metrics.json is gone from main.",
        "plots/confusion-dark.png on main was not published.",
    ]


def test_the_tag_is_moved_or_taken_away(bare: Bare, resources: Resources) -> None:
    first = published(resources)
    bare.commit({"notes.txt": b"1"})
    bare.git("update-ref", "refs/tags/air_quality/v1", "main")
    (change,) = seen(resources)
    assert f"{first.commit[:10]} was published" in change
    bare.git("tag", "-d", "air_quality/v1")
    assert seen(resources) == ["The tag air_quality/v1 is gone."]


def test_a_signed_tag_that_is_replaced_on_the_same_commit(
    bare: Bare, resources: Resources, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "key")
    given = resources.settings.model_copy(update={"git_signing_key_file": key})
    signing = replace(resources, settings=given)
    record = published(signing)
    assert seen(signing) == []
    bare.git("tag", "-f", "air_quality/v1", record.commit)
    (change,) = seen(signing)
    assert "was replaced by another tag on the same commit" in change


def test_history_that_was_rewritten(bare: Bare, resources: Resources) -> None:
    """The commit of the publication is gone, so the record of the model is what is left."""
    first = published(resources)
    bare.git("update-ref", "-d", "refs/heads/main")
    bare.git("tag", "-d", "air_quality/v1")
    bare.git("reflog", "expire", "--expire=now", "--all")
    bare.git("gc", "--quiet", "--prune=now")
    assert seen(resources) == ["The tag air_quality/v1 is gone.", "The branch main is gone."]
    bare.commit({"model.joblib": b"theirs", "README.md": b"theirs"})
    assert seen(resources) == [
        "The tag air_quality/v1 is gone.",
        f"Commit {first.commit[:10]} is no longer in the repository.",
        "model.joblib on main is not the file that was published.",
    ]


def test_a_model_that_is_being_published_is_no_alteration(bare: Bare, resources: Resources) -> None:
    """Its commit can be on the branch a moment before its record is in the store."""
    published(resources, 1)
    event = promoted(resources.store, 2, recorded_at=datetime.now(UTC))
    pipeline = resources.pipelines["air_quality"]
    publish_model(event, pipeline, resources.store, resources.settings)
    watch_publications(resources)
    assert told(resources.store) == []


def test_a_repository_that_does_not_answer_is_no_alteration(
    bare: Bare, resources: Resources, tmp_path: Path
) -> None:
    published(resources)
    assert seen(resources) == []
    before = watch_of(resources.store, "air_quality")
    bare.path.rename(tmp_path / "moved.git")
    watch_publications(resources)
    after = watch_of(resources.store, "air_quality")
    assert before
    assert after
    assert after.failure
    assert after.seen_at == before.seen_at
    assert told(resources.store) == []


def test_a_change_is_not_forgotten_while_the_repository_does_not_answer(
    bare: Bare, resources: Resources, tmp_path: Path
) -> None:
    published(resources)
    bare.commit({"model.joblib": b"theirs"})
    seen(resources)
    bare.path.rename(tmp_path / "moved.git")
    watch_publications(resources)
    assert problems(resources)


def test_who_can_write_to_the_store_cannot_hide_a_change(bare: Bare, resources: Resources) -> None:
    published(resources)
    bare.commit({"model.joblib": b"theirs"})
    seen(resources)
    hide = {"$set": {"changes": []}}
    resources.store.database["publication_watch"].update_one({}, hide)
    with pytest.raises(Unauthentic, match="publication_watch: the record air_quality was not"):
        watch_of(resources.store, "air_quality")
    assert "publication_watch: the record air_quality" in " ".join(status(resources)["problems"])
    assert seen(resources) != []


def test_a_look_brings_no_more_bytes_than_it_may(
    bare: Bare, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OF_A_LOOK", Limits(seconds=60, file_bytes=1 << 20))
    published(resources)
    bare.commit({"huge": os.urandom(8 << 20)})
    watch_publications(resources)
    found = watch_of(resources.store, "air_quality")
    assert found
    assert found.failure
    cache = resources.settings.git_cache / "watch"
    left = [path for path in cache.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in left) < 1 << 20


def test_a_host_that_never_ends_is_given_up(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(seconds=3, file_bytes=1 << 20)
    monkeypatch.setattr(module, "_OF_A_LOOK", limits)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/models.git"
        repository = module.ModelRepository.for_a_look(
            address, "main", resources.settings.git_cache / "watch", None, None
        )
        expected = module.Expected("a" * 40, "air_quality/v1", None, ("m",), "m", b"")
        with pytest.raises(WillPass, match="did not complete in 3 s"):
            repository.changes_since(expected)


def test_a_command_prints_no_more_than_it_may(tmp_path: Path) -> None:
    endless = ["sh", "-c", "while :; do echo 0123456789abcdef; done"]
    limits = Limits(seconds=60, file_bytes=1 << 20, said_bytes=1_000)
    status, printed, said = _run_within(limits, endless, tmp_path, {}, None)
    assert status != 0
    assert printed == ""
    assert said == "git printed more than 1,000 bytes"


def test_over_http_no_content_is_fetched(bare: Bare, resources: Resources, store: Store) -> None:
    bare.git("config", "uploadpack.allowFilter", "true")
    with serving(bare.path.parent, "publisher:secret") as host:
        changes = {
            "model_repository": f"{host.url}/models.git",
            "github_username": "publisher",
            "github_token": SecretStr("secret"),
        }
        over_http = replace(resources, settings=resources.settings.model_copy(update=changes))
        published(over_http)
        bare.commit({"model.joblib": os.urandom(4 << 20)})
        assert seen(over_http) == ["model.joblib on main is not the file that was published."]
    cache = resources.settings.git_cache / "watch"
    assert sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) < 1 << 20


def test_what_stands_there_is_never_run(bare: Bare, resources: Resources, tmp_path: Path) -> None:
    published(resources)
    hostile = f"touch {tmp_path}/owned\n".encode()
    bare.commit(
        {
            "model.joblib": b"cos\nsystem\n(S'" + hostile.strip() + b"'\ntR.",
            ".gitattributes": b"* filter=evil diff=evil\n",
            ".gitmodules": b'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c touch% owned\n',
            "hooks/post-checkout": b"#!/bin/sh\n" + hostile,
        }
    )
    assert seen(resources) == ["model.joblib on main is not the file that was published."]
    assert not (tmp_path / "owned").exists()


def test_the_exporter_serves_it(bare: Bare, resources: Resources) -> None:
    published(resources)
    bare.commit({"model.joblib": b"theirs"})
    seen(resources)
    found = PipelineFigures(resources.store, resources.pipelines).read()
    assert found[metrics.ALTERED] == {("air_quality",): 1}
    assert found[metrics.WATCHED][("air_quality",)] > 0


def test_before_there_is_a_publication_nothing_is_looked_at(
    resources: Resources, air_quality: Pipeline, settings: Settings
) -> None:
    watch_publications(resources)
    assert watch_of(resources.store, air_quality.name) is None
    assert status(resources)["pipelines"]["air_quality"]["publication"]["changes"] == []


def test_a_worker_looks_when_beat_asks_it_to(
    bare: Bare,
    resources: Resources,
    settings: Settings,
    mongo: Mongo,
    valkey: Valkey,
    tmp_path: Path,
) -> None:
    published(resources)
    bare.commit({"model.joblib": b"theirs"})
    given = {
        "REDIS_URL": valkey.url,
        "MONGODB_URI": mongo.uri,
        "MONGODB_DATABASE": settings.mongodb_database,
        "PIPELINES": str(AIR_QUALITY.parent),
        "MODEL_REPOSITORY": str(bare.path),
        "MODEL_SIGNING_KEY": "a signing key for tests only",
        "GIT_CACHE": str(tmp_path / "git"),
    }
    entry = beat_schedule(resources.pipelines, settings.watch_seconds)["watch"]
    worker = started("publisher", given, tmp_path / "log")
    try:
        app = celery_app(lambda: settings)
        app.send_task(entry["task"], **entry["options"])
        assert wait_for(lambda: told(resources.store), 40), worker.last_words()
    finally:
        worker.stop()


def test_many_changes_are_shortened() -> None:
    text = in_one_text(f"file {number} on main is not the file." for number in range(40))
    assert text.endswith("And 35 more.")
    assert len(in_one_text("x" * 400 for _ in range(9))) == 500
