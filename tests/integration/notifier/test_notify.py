"""The handler on a real store and real sockets: at most one message an event and channel."""

from datetime import UTC, datetime, timedelta

import pytest

from services.notifier.notify import Deliveries, notify
from shared.events import (
    DriftFound,
    ModelPromoted,
    ModelPublished,
    ModelRejected,
    ReviewNeeded,
    Stage,
    WorkFailed,
    dump_event,
    effect_id,
)
from shared.failures import WillNotPass, WillPass
from shared.outcome import Outcome
from shared.pipeline import Notify, Pipeline
from shared.records import DeadLetter, DriftReport, Notification
from shared.settings import Settings
from shared.stage import Resources, StageRuntime
from shared.store import Store
from tests.integration.notifier.conftest import Answer, FarSide, with_channels


def notification(outcome: Outcome) -> Notification:
    assert isinstance(outcome.record, Notification)
    assert outcome.events == ()
    return outcome.record


@pytest.fixture
def asks_for_drift(air_quality: Pipeline) -> Pipeline:
    return air_quality.model_copy(update={"notify": Notify(events=("DriftFound",))})


def base_of(event: ModelPromoted) -> dict[str, object]:
    return event.model_dump(include={"event_id", "trace_id", "pipeline", "occurred_at"})


def test_a_promotion_becomes_one_embed_and_one_record(
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    to_discord: Settings,
    far_side: FarSide,
) -> None:
    record = notification(notify(promotion, air_quality, store, to_discord))
    (request,) = far_side.requests
    (embed,) = request.body["embeds"]
    facts = {field["name"]: field["value"] for field in embed["fields"]}
    assert embed["title"] == r"air\_quality: model v3 is the champion"
    assert facts["Drift score"] == "0.241 against a threshold of 0.1"
    assert facts["Moved most"] == r"pollutant\_max: mean 82.1 → 132.5 (drift 0.61)"
    assert facts["Mean absolute error"] == "6.46 (v2: 6.97)"
    assert record.id == effect_id("notifier", promotion.event_id)
    assert record.title == "air_quality: model v3 is the champion"
    assert "Mean absolute error: 6.46 (v2: 6.97)" in record.text
    assert record.channels == {"discord": "sent"}
    assert store.record(record)


def test_a_drift_becomes_one_embed_with_its_chart(
    drift: DriftFound,
    picture: bytes,
    asks_for_drift: Pipeline,
    store: Store,
    to_discord: Settings,
    far_side: FarSide,
) -> None:
    record = notification(notify(drift, asks_for_drift, store, to_discord))
    (request,) = far_side.requests
    (embed,) = request.body["embeds"]
    assert embed["title"] == r"air\_quality: drift in batch 124"
    assert embed["description"].startswith(r"pollutant\_avg in PM2.5: median 84 → 131 (p = 3.2e-8")
    assert [field["name"] for field in embed["fields"]] == [
        r"pollutant\_avg in PM2.5",
        r"pollutant\_avg in PM10",
        r"pollutant\_max in PM2.5",
        "Whole report",
    ]
    assert embed["fields"][1]["value"] == "median 108 → 141\neffect 0.22, p = 4.4e-9"
    assert embed["image"] == {"url": "attachment://drift.png"}
    assert request.files["files[0]"].data == picture
    assert record.id == effect_id("notifier", drift.event_id)
    assert record.channels == {"discord": "sent"}
    assert "trimtab report --pipeline air_quality 124" in record.text
    assert store.record(record)


@pytest.mark.parametrize("answer", [Answer(429, {"retry_after": 99}), Answer(502), Answer(0)])
def test_another_try_takes_the_chart_along(
    answer: Answer,
    drift: DriftFound,
    picture: bytes,
    asks_for_drift: Pipeline,
    store: Store,
    to_discord: Settings,
    far_side: FarSide,
) -> None:
    far_side.say(answer)
    with pytest.raises(WillPass):
        notify(drift, asks_for_drift, store, to_discord)
    record = notification(notify(drift, asks_for_drift, store, to_discord))
    assert record.channels == {"discord": "sent"}
    notify(drift, asks_for_drift, store, to_discord)
    assert [request.files["files[0]"].data for request in far_side.requests] == [picture] * 2


def test_names_in_the_data_ping_nobody(
    drift: DriftFound,
    asks_for_drift: Pipeline,
    store: Store,
    to_discord: Settings,
    far_side: FarSide,
) -> None:
    (report,) = store.find(DriftReport, {"_id": drift.report})
    everyone = report.cells[0].model_copy(
        update={"column": "@everyone <@&1> https://example.org", "segment": "@here\r\n# big"}
    )
    hostile = report.model_copy(update={"id": "drift:hostile", "cells": [everyone]})
    store.record(hostile)
    notify(drift.model_copy(update={"report": hostile.id}), asks_for_drift, store, to_discord)
    body = far_side.requests[0].body
    assert body["allowed_mentions"] == {"parse": []}
    assert "content" not in body
    name = body["embeds"][0]["fields"][0]["name"]
    assert name == r"\@everyone \<\@&1\> https∶//example.org in \@here \# big"


@pytest.mark.parametrize("missing", ["chart", "report"])
def test_what_is_no_longer_kept_does_not_stop_the_message(
    missing: str,
    drift: DriftFound,
    asks_for_drift: Pipeline,
    store: Store,
    to_discord: Settings,
    far_side: FarSide,
) -> None:
    if missing == "chart":
        store.remove_blobs(keep=set(), uploaded_before=datetime.now(UTC) + timedelta(minutes=1))
    else:
        store.collection(DriftReport).delete_one({"_id": drift.report})
    record = notification(notify(drift, asks_for_drift, store, to_discord))
    (request,) = far_side.requests
    assert request.files == {}
    assert "image" not in request.body["embeds"][0]
    assert drift.reason in record.text


def test_a_publication_links_its_commit(
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    to_discord: Settings,
    far_side: FarSide,
) -> None:
    event = ModelPublished(
        **base_of(promotion),
        model_version=3,
        commit="0" * 40,
        branch="main",
        url="https://example.org/commit/0",
    )
    notify(event, air_quality, store, to_discord)
    assert far_side.requests[0].body["embeds"][0]["url"] == "https://example.org/commit/0"


def test_a_failure_says_how_to_look_at_it(
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    to_discord: Settings,
    far_side: FarSide,
) -> None:
    event = WorkFailed(
        **base_of(promotion),
        stage="publisher",
        failed_event="ModelPromoted",
        dead_letter="publisher:1",
        reason="refused",
    )
    record = notification(notify(event, air_quality, store, to_discord))
    assert "trimtab dead-letters show publisher:1" in record.text
    assert len(far_side.requests) == 1


def test_what_the_pipeline_does_not_ask_for_is_settled_without_a_message(
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    to_discord: Settings,
    far_side: FarSide,
) -> None:
    event = ModelRejected(
        **base_of(promotion), model_version=3, champion_version=2, sequence=7, reason="worse"
    )
    assert event.type not in air_quality.notify.events
    record = notification(notify(event, air_quality, store, to_discord))
    assert record.channels == {}
    assert record.title == "air_quality: model v3 was rejected"
    assert "worse" in record.text
    assert far_side.requests == []


def test_a_person_is_asked_to_look_once(
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    to_discord: Settings,
    far_side: FarSide,
) -> None:
    event = ReviewNeeded(
        **base_of(promotion),
        model_version=3,
        champion_version=2,
        sequence=7,
        rejections=3,
        reason="worse",
    )
    for _ in range(2):
        record = notification(notify(event, air_quality, store, to_discord))
    assert record.title == "air_quality: 3 models in a row were rejected"
    assert record.channels == {"discord": "sent"}
    (request,) = far_side.requests
    assert "a person should look" in str(request)


def test_without_channels_it_prints(
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = notification(notify(promotion, air_quality, store, settings))
    assert record.channels == {"console": "printed"}
    assert capsys.readouterr().out.startswith(f"{record.title}\n{record.text}\n\n")
    assert record.text.endswith(f"trimtab history show {promotion.trace_id}")


def test_a_model_that_the_store_does_not_hold_cannot_be_told_of(
    promotion: ModelPromoted, air_quality: Pipeline, store: Store, settings: Settings
) -> None:
    unknown = promotion.model_copy(update={"model_version": 4})
    with pytest.raises(WillNotPass, match="no model v4 of air_quality"):
        notify(unknown, air_quality, store, settings)


def test_an_event_whose_record_was_lost_is_not_told_again(
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    to_discord: Settings,
    far_side: FarSide,
) -> None:
    first = notification(notify(promotion, air_quality, store, to_discord))
    again = notification(notify(promotion, air_quality, store, to_discord))
    assert again.channels == first.channels == {"discord": "sent"}
    assert len(far_side.requests) == 1


def test_a_later_try_repeats_only_the_channel_that_failed(
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    settings: Settings,
    far_side: FarSide,
) -> None:
    several = with_channels(
        settings, far_side.webhook, far_side.apprise("one"), far_side.apprise("two")
    )
    far_side.say(Answer(429, {"retry_after": 99}), Answer(200), Answer(503))
    with pytest.raises(
        WillPass, match=r"discord: .*429.*; apprise 2 \(json\): answered 503"
    ) as failure:
        notify(promotion, air_quality, store, several)
    assert failure.value.retry_after == 99
    record = notification(notify(promotion, air_quality, store, several))
    assert record.channels == {
        "discord": "sent",
        "apprise 1 (json)": "sent",
        "apprise 2 (json)": "sent",
    }
    counts = [len(far_side.received_at(part)) for part in ("/api/webhooks/", "/one/", "/two/")]
    assert counts == [2, 1, 2]


def test_a_channel_that_refuses_does_not_stop_the_others_and_is_not_asked_again(
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    settings: Settings,
    far_side: FarSide,
) -> None:
    several = with_channels(settings, far_side.webhook, far_side.apprise())
    far_side.say(Answer(404, {"message": "Unknown Webhook"}), Answer(500))
    with pytest.raises(WillPass, match="500"):
        notify(promotion, air_quality, store, several)
    record = notification(notify(promotion, air_quality, store, several))
    assert "Unknown Webhook" in record.channels["discord"]
    assert record.channels["apprise 1 (json)"] == "sent"
    assert len(far_side.received_at("/api/webhooks/")) == 1


def test_when_all_channels_refuse_it_fails_for_good(
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    settings: Settings,
    far_side: FarSide,
) -> None:
    several = with_channels(settings, far_side.webhook, far_side.apprise())
    far_side.say(Answer(400, {"message": "Invalid Form Body"}), Answer(403))
    with pytest.raises(WillNotPass, match=r"discord: .*Invalid Form Body.*apprise 1 .*403"):
        notify(promotion, air_quality, store, several)


def test_a_replayed_dead_letter_asks_those_that_refused_again_and_only_those(
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    settings: Settings,
    far_side: FarSide,
) -> None:
    several = with_channels(settings, far_side.webhook, far_side.apprise())
    effect = effect_id("notifier", promotion.event_id)
    far_side.say(Answer(404), Answer(500))
    with pytest.raises(WillPass):
        notify(promotion, air_quality, store, several)
    store.bury(letter_for(effect, promotion))
    far_side.say(Answer(200, {"id": "1"}), Answer(500))
    with pytest.raises(WillPass):
        notify(promotion, air_quality, store, several)
    assert Deliveries(store, effect).answers().keys() == {"discord"}
    record = notification(notify(promotion, air_quality, store, several))
    assert record.channels == {"discord": "sent", "apprise 1 (json)": "sent"}
    assert len(far_side.received_at("/api/webhooks/")) == 2
    assert len(far_side.received_at("/hook/")) == 3


def letter_for(effect: str, event: ModelPromoted, stage: Stage = "notifier") -> DeadLetter:
    return DeadLetter(
        id=effect,
        pipeline=event.pipeline,
        trace_id=event.trace_id,
        recorded_at=datetime.now(UTC),
        stage=stage,
        kind=event.type,
        reason="a test",
        message=dump_event(event),
        attempts=1,
    )


def test_a_lost_answer_is_the_one_case_of_a_double(
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    to_discord: Settings,
    far_side: FarSide,
) -> None:
    far_side.say(Answer(0))
    with pytest.raises(WillPass, match="answer was lost"):
        notify(promotion, air_quality, store, to_discord)
    notify(promotion, air_quality, store, to_discord)
    assert len(far_side.requests) == 2


def test_the_message_id_is_kept(
    promotion: ModelPromoted, air_quality: Pipeline, store: Store, to_discord: Settings
) -> None:
    notify(promotion, air_quality, store, to_discord)
    kept = store.database["deliveries"].find_one(effect_id("notifier", promotion.event_id))
    assert kept
    assert kept["channels"]["discord"]["message_id"] == "9001"


def test_a_failure_whose_message_is_refused_is_one_dead_letter_and_no_new_failure(
    promotion: ModelPromoted, resources: Resources, far_side: FarSide
) -> None:
    settings = with_channels(resources.settings, far_side.webhook)
    far_side.say(Answer(404, {"message": "Unknown Webhook"}))
    event = WorkFailed(
        **base_of(promotion),
        stage="publisher",
        failed_event="ModelPromoted",
        dead_letter="publisher:1",
        reason="refused",
    )
    StageRuntime("notifier", resources).handle(
        dump_event(event),
        lambda event, own: notify(event, own.pipeline(event), own.store, settings),
    )
    (letter,) = resources.store.find(DeadLetter, {})
    assert letter.id == effect_id("notifier", event.event_id)
    assert "Unknown Webhook" in letter.reason
    assert resources.store.events_of(letter) == []
