"""Settings that would have us talk to anybody, or in the clear, are refused at the start."""

import os
import subprocess
import sys
from typing import Any

import pymongo.common
import pytest
import yaml

from services.ingest.headers import require_secrets_over_tls
from shared.pipeline import Pipeline
from shared.settings import Settings, SettingsError, read_settings
from tests.conftest import AIR_QUALITY

CANARY = "canaryOfAPassword"
STORE = f"mongodb://u:{CANARY}@store/"
UNVERIFIED = [
    "tlsInsecure",
    "tlsAllowInvalidCertificates",
    "tlsAllowInvalidHostnames",
    "tlsDisableOCSPEndpointCheck",
]


def settings(**given: str) -> Settings:
    return read_settings(
        **{"redis_url": "redis://broker", "mongodb_uri": "mongodb://store"} | given
    )


@pytest.mark.parametrize("option", UNVERIFIED)
@pytest.mark.parametrize("value", ["true", "True", "1", "yes", "%74rue", ""])
def test_the_store_is_always_verified(option: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"MONGODB_URI: {option} has to be left out") as refusal:
        settings(mongodb_uri=f"{STORE}?tls=true&{option}={value}")
    assert CANARY not in str(refusal.value)


@pytest.mark.parametrize(
    "options",
    [
        "tls=true&TLSINSECURE=true",
        "tls=true;tlsinsecure=true",
        "tlsInsecure=true&tls=true",
        "tlsInsecure=false&tlsInsecure=true",
        "tls=true&tlsAllowInvalidcertificates=true",
        "ssl=true&ssl_cert_reqs=CERT_NONE",
        "ssl=true&SSL_MATCH_HOSTNAME=no",
    ],
)
def test_in_whatever_spelling(options: str) -> None:
    with pytest.raises(SettingsError, match="MONGODB_URI") as refusal:
        settings(mongodb_uri=f"{STORE}?{options}")
    assert CANARY not in str(refusal.value)


def test_what_changes_nothing_is_taken() -> None:
    assert settings(mongodb_uri=f"{STORE}?tls=true&tlsInsecure=false&w=majority").mongodb_uri


def test_every_option_of_tls_that_pymongo_knows_was_looked_at() -> None:
    """A new one has to be looked at: does it weaken what is verified?"""
    known = {name for name in pymongo.common.URI_OPTIONS_VALIDATOR_MAP if name.startswith("tls")}
    harmless = {
        "tls",
        "tlscafile",
        "tlscrlfile",
        "tlscertificatekeyfile",
        "tlscertificatekeyfilepassword",
    }
    assert known - harmless == {name.lower() for name in UNVERIFIED}


def test_a_worker_does_not_start_with_a_store_that_anybody_can_pose_as() -> None:
    given = {"REDIS_URL": "redis://127.0.0.1:1", "MONGODB_URI": f"{STORE}?tlsInsecure=true"}
    command = [sys.executable, "-m", "celery", "-A", "services.notifier.tasks", "worker"]
    done = subprocess.run(
        command, env=os.environ | given, capture_output=True, text=True, timeout=60, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "MONGODB_URI: tlsInsecure has to be left out" in said
    assert CANARY not in said


@pytest.mark.parametrize(
    "options", ["ssl_cert_reqs=required&ssl_cert_reqs=none", "ssl_check_hostname=True&"]
)
def test_the_broker_is_always_verified_whichever_value_counts(options: str) -> None:
    address = f"rediss://:{CANARY}@broker/0?{options}"
    if options.count("ssl_cert_reqs") == 2:
        with pytest.raises(SettingsError, match="REDIS_URL: ssl_cert_reqs"):
            settings(redis_url=address)
    else:
        settings(redis_url=address)


@pytest.mark.parametrize("option", ["verify=no", "VERIFY=No", "verify=", "a=b&verify=false"])
def test_a_channel_is_always_verified(option: str) -> None:
    with pytest.raises(SettingsError, match=r"APPRISE_URLS.*verify has to be left out") as refusal:
        settings(apprise_urls=f"jsons://host/{CANARY}?{option}")
    assert CANARY not in str(refusal.value)


EXPOSED = [
    {"model_repository": "http://models.example/m.git"},
    {"model_repository": "http://127.0.0.1.example/m.git"},
    {"discord_webhook_url": f"http://hooks.example/{CANARY}"},
    {"feed_url": "http://feed.example", "data_gov_in_api_key": CANARY},
]


@pytest.mark.parametrize("given", EXPOSED)
def test_in_the_clear_nothing_is_said_to_another_machine(given: dict[str, str]) -> None:
    name = next(iter(given)).upper()
    with pytest.raises(SettingsError, match=f"{name} begins with http://") as refusal:
        settings(**given)
    assert CANARY not in str(refusal.value)
    hosts = "models.example 127.0.0.1.example hooks.example feed.example"
    assert settings(**given, plain_http_hosts=hosts)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:1"])
def test_this_machine_may_be_spoken_to_in_the_clear(host: str) -> None:
    assert settings(
        model_repository=f"http://{host}/m.git",
        discord_webhook_url=f"http://{host}/hook",
        feed_url=f"http://{host}",
        data_gov_in_api_key=CANARY,
    )


def with_a_secret_header(source: dict[str, Any]) -> Pipeline:
    definition = yaml.safe_load(AIR_QUALITY.read_text())
    headers = {"Accept": "text/csv", "Authorization": {"environment": "FEED_LOGIN"}}
    definition["source"] = {**source, "headers": headers}
    return Pipeline.model_validate(definition)


@pytest.mark.parametrize(
    "source",
    [
        {"kind": "http", "url": "http://feed.example/rows.csv"},
        {"kind": "data_gov_in", "resource": "3b01bcb8-0b14-4abf-b6f2-c1bfd384ba69"},
    ],
    ids=["http", "data.gov.in"],
)
def test_a_secret_header_is_not_sent_in_the_clear(source: dict[str, Any]) -> None:
    pipelines = [with_a_secret_header(source)]
    with pytest.raises(SettingsError, match="the header Authorization holds a secret"):
        require_secrets_over_tls(settings(feed_url="http://feed.example"), pipelines)
    allowed = settings(feed_url="http://feed.example", plain_http_hosts="feed.example")
    require_secrets_over_tls(allowed, pipelines)
    without = pipelines[0].model_copy(
        update={
            "source": pipelines[0].source.model_copy(update={"headers": {"Accept": "text/csv"}})
        }
    )
    require_secrets_over_tls(settings(feed_url="http://feed.example"), [without])


def test_no_word_of_an_address_that_cannot_be_read_is_told() -> None:
    with pytest.raises(SettingsError, match="DISCORD_WEBHOOK_URL") as refusal:
        settings(discord_webhook_url=f"https://[{CANARY}/hook")
    assert CANARY not in str(refusal.value)
