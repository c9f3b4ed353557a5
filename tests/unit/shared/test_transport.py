"""The door to the workers: what may come in as a task, and what becomes a dead letter."""

import base64
import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import STAGES, Stage, first_event_fields
from shared.tasks import KEPT, arguments, bury_task
from shared.transport import Foreign, _checked, admitted, require_ours, with_mac
from tests.keys import AUTHENTICATOR, STRANGER
from tests.security.foreign_messages import encoded, foreign, message

EVENT = json.loads(
    json.dumps(
        first_event_fields("air_quality", "a test")
        | {"type": "BatchIngested", "version": 1, "sequence": 1, "rows": 3, "data": None},
        default=str,
    )
)
CASES = foreign("drift", "BatchIngested", EVENT)
READ_BY_THE_RUNTIME = (
    "another version",
    "a path as an id",
    "a path as a pipeline",
    "an operator as an id",
    "more than an event has",
    "half a character",
    "no zone",
)


def called_with(admitted_message: bytes) -> tuple[str, dict[str, Any]]:
    """The task and its arguments, which Celery will read in the same way."""
    envelope = json.loads(admitted_message)
    (positional, named, _) = json.loads(base64.b64decode(envelope["body"]))
    assert positional == []
    return envelope["headers"]["task"], named


@pytest.mark.parametrize("case", [name for name in CASES if name not in READ_BY_THE_RUNTIME])
def test_what_is_not_ours_is_kept_with_its_reason(case: str) -> None:
    task, named = called_with(admitted("drift", CASES[case], AUTHENTICATOR))
    assert task == "drift.bury"
    assert named["reason"]
    assert len(named["received"]) <= KEPT
    assert CASES[case].decode("utf-8", "backslashreplace").startswith(named["received"][:KEPT])


@pytest.mark.parametrize("case", READ_BY_THE_RUNTIME)
def test_the_event_itself_is_left_to_the_runtime(case: str) -> None:
    assert admitted("drift", CASES[case], AUTHENTICATOR) == CASES[case]


def test_a_message_of_ours_passes_as_it_is() -> None:
    ours = message("drift", "BatchIngested", EVENT)
    assert admitted("drift", ours, AUTHENTICATOR) is ours


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"headers": {"mac": ""}}, id="no MAC"),
        pytest.param({"headers": {"mac": "0" * 64}}, id="another MAC"),
        pytest.param({"headers": {"task": "drift.on_chunk_ingested"}}, id="another task"),
        pytest.param({"body": encoded([[], {"event": EVENT | {"rows": 4}}, {}])}, id="more rows"),
    ],
)
def test_an_altered_message_is_refused(change: dict[str, Any]) -> None:
    ours = json.loads(message("drift", "BatchIngested", EVENT))
    altered = ours | change
    altered["headers"] = ours["headers"] | change.get("headers", {})
    with pytest.raises(Foreign, match=r"headers\.mac: not made with this system's EVENT_KEY"):
        require_ours("drift", json.dumps(altered).encode(), AUTHENTICATOR)


def test_a_message_of_another_key_or_for_another_stage_is_refused() -> None:
    ours = message("drift", "BatchIngested", EVENT)
    for stage, authenticator in (("drift", STRANGER), ("drift", None), ("trainer", AUTHENTICATOR)):
        with pytest.raises(Foreign, match="mac"):
            require_ours(cast("Stage", stage), ours, authenticator)


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_kept_passes_the_door_when_it_is_delivered_again(stage: Stage) -> None:
    burial = admitted(stage, b"hello", AUTHENTICATOR)
    require_ours(stage, burial, AUTHENTICATOR)
    assert called_with(burial)[0] == bury_task(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_every_task_of_a_stage_passes_with_its_arguments_and_without_does_not(stage: Stage) -> None:
    for task, names in arguments(stage).items():
        if "event" in names:
            continue
        given_ = dict.fromkeys(names, "text")
        call = message(stage, "X", {}, headers={"task": task}, body=encoded([[], given_, {}]))
        require_ours(stage, call, AUTHENTICATOR)
        more = encoded([[], given_ | {"more": 1}, {}])
        further = message(stage, "X", {}, headers={"task": task}, body=more)
        with pytest.raises(Foreign, match=task):
            require_ours(stage, further, AUTHENTICATOR)


@given(st.binary(max_size=300))
def test_no_bytes_get_in_or_break_the_door(junk: bytes) -> None:
    assert called_with(admitted("drift", junk, AUTHENTICATOR))[0] == "drift.bury"


def signed(envelope: dict[str, Any]) -> bytes:
    """With the MAC of what it asks for, where it asks for something."""
    headers, body = envelope["headers"], envelope["body"]
    if isinstance(headers, dict) and isinstance(headers.get("task"), str) and isinstance(body, str):
        envelope = with_mac("drift", envelope, AUTHENTICATOR)
    return json.dumps(envelope).encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
PARTS = ("body", "content-type", "content-encoding", "headers", "properties")


@given(st.sampled_from(PARTS), JSON)
def test_no_part_of_a_message_may_be_anything(part: str, value: Any) -> None:
    envelope = json.loads(message("drift", "BatchIngested", EVENT))
    found = admitted("drift", signed(envelope | {part: value}), AUTHENTICATOR)
    assert called_with(found)[0] == "drift.bury"


@given(st.sampled_from(["headers", "properties"]), st.data())
def test_no_field_can_break_the_door(part: str, data: st.DataObject) -> None:
    envelope = json.loads(message("drift", "BatchIngested", EVENT))
    field = data.draw(st.sampled_from(sorted(envelope[part])))
    envelope[part][field] = data.draw(JSON)
    called_with(admitted("drift", signed(envelope), AUTHENTICATOR))


@given(JSON)
def test_no_body_gets_in_but_an_events(content: Any) -> None:
    ours = message("drift", "BatchIngested", EVENT, body=encoded(content))
    assert called_with(admitted("drift", ours, AUTHENTICATOR))[0] == "drift.bury"


def test_only_the_queues_of_stages_have_a_door() -> None:
    reply = b"ours:somebody.reply.celery.pidbox", b"hello"
    assert _checked("ours:", AUTHENTICATOR, reply) == reply
    assert _checked("ours:", AUTHENTICATOR, None) is None
    answer = _checked("ours:", AUTHENTICATOR, (b"ours:drift", b"hello"))
    key, found = cast("tuple[bytes, bytes]", answer)
    assert key == b"ours:drift"
    assert called_with(found)[0] == "drift.bury"
