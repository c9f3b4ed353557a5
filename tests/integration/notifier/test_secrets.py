"""The addresses of channels are passwords: they stand in no log, exception, record or repr."""

import logging
import traceback
from collections.abc import Iterator
from io import StringIO

import pytest
from bson import json_util

from services.notifier.notify import notify
from shared.events import ModelPromoted
from shared.failures import WillNotPass, WillPass
from shared.pipeline import Pipeline
from shared.settings import Settings
from shared.store import Store
from tests.integration.notifier.conftest import TOKEN, Answer, FarSide, with_channels

CHATTY = ("", "httpx", "httpcore", "apprise", "urllib3", "requests", "asyncio", "services")

ANSWERS = {
    "taken": (),
    "wait": (Answer(429, {"retry_after": 0.01}), Answer(429, {"retry_after": 99})),
    "ill": (Answer(500),),
    "gone": (Answer(404, {"message": f"Unknown Webhook {TOKEN}"}),),
    "refused": (Answer(400, f"Cannot POST /{TOKEN}"),),
    "lost": (Answer(0),),
}


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[StringIO]:
    """All that the process's log handler gets, at the lowest level.

    `caplog` itself would also listen at loggers whose lines go nowhere.
    """
    for name in CHATTY:
        caplog.set_level(logging.DEBUG, logger=name)
    lines = StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)


def told(event: ModelPromoted, pipeline: Pipeline, store: Store, settings: Settings) -> str:
    """Handle the event; all that an exception or the record shows of it, causes included."""
    try:
        outcome = notify(event, pipeline, store, settings)
    except (WillPass, WillNotPass) as failure:
        shown = [*traceback.format_exception(failure), repr(failure.__context__)]
        return "".join(shown)
    store.record(outcome.record)
    return outcome.record.model_dump_json()


def stored(store: Store) -> str:
    names = store.database.list_collection_names()
    return json_util.dumps([list(store.database[name].find()) for name in names])


@pytest.mark.parametrize("case", ANSWERS)
def test_the_webhooks_token_stays_secret(
    case: str,
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    to_discord: Settings,
    far_side: FarSide,
    logged: StringIO,
    capfd: pytest.CaptureFixture[str],
) -> None:
    far_side.say(*ANSWERS[case])
    shown = told(promotion, air_quality, store, to_discord)
    assert TOKEN in far_side.requests[0].path  # it was used
    assert "httpcore.http11: send_request_headers" in logged.getvalue()  # and logged about
    printed = "".join(capfd.readouterr())
    for place in (shown, logged.getvalue(), printed, stored(store), repr(to_discord)):
        assert TOKEN not in place


@pytest.mark.parametrize("case", ANSWERS)
def test_the_token_in_an_apprise_url_stays_secret(
    case: str,
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    settings: Settings,
    far_side: FarSide,
    logged: StringIO,
    capfd: pytest.CaptureFixture[str],
) -> None:
    far_side.say(*ANSWERS[case])
    by_apprise = with_channels(settings, None, far_side.apprise())
    shown = told(promotion, air_quality, store, by_apprise)
    assert TOKEN in far_side.requests[0].path
    printed = "".join(capfd.readouterr())
    for place in (shown, logged.getvalue(), printed, stored(store), repr(by_apprise)):
        assert TOKEN not in place


def test_an_address_where_nobody_listens_stays_secret(
    promotion: ModelPromoted,
    air_quality: Pipeline,
    store: Store,
    settings: Settings,
    nobody: str,
    logged: StringIO,
) -> None:
    unheard = with_channels(
        settings, f"http://{nobody}/api/webhooks/1/{TOKEN}", f"json://{nobody}/{TOKEN}", TOKEN
    )
    shown = told(promotion, air_quality, store, unheard)
    assert "could not be reached" in shown
    for place in (shown, logged.getvalue(), stored(store)):
        assert TOKEN not in place
