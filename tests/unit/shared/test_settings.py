"""Settings: from the environment or from files; errors name the setting and never its value."""

from pathlib import Path

import pytest

from shared.settings import SettingsError, read_settings


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("REDIS_URL", "redis://:canary@localhost/0")
    monkeypatch.setenv("MONGODB_URI", "mongodb://u:canary@localhost")
    return monkeypatch


def test_secret_comes_from_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from a file\n")
    environment.setenv("GITHUB_TOKEN_FILE", str(file))
    token = read_settings().github_token
    assert token
    assert token.get_secret_value() == "from a file"


def test_empty_file_sets_nothing(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A secret that an installation does not use is an empty file beside the others."""
    file = tmp_path / "token"
    file.write_text("\n")
    environment.setenv("GITHUB_TOKEN_FILE", str(file))
    assert read_settings().github_token is None


def test_every_key_has_to_be_long(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MODEL_SIGNING_KEY", "long enough, this one\ncanary")
    with pytest.raises(SettingsError, match="MODEL_SIGNING_KEY: each line") as refused:
        read_settings()
    assert "canary" not in str(refused.value)


def test_secret_is_not_shown(environment: pytest.MonkeyPatch) -> None:
    assert "canary" not in repr(read_settings())


def test_setting_given_twice_is_refused(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("REDIS_URL_FILE", str(tmp_path / "x"))
    with pytest.raises(SettingsError, match="REDIS_URL and REDIS_URL_FILE are both set"):
        read_settings()


def test_unreadable_file_is_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("GITHUB_TOKEN_FILE", str(tmp_path / "missing"))
    with pytest.raises(SettingsError, match=r"GITHUB_TOKEN_FILE: cannot read the file /.*missing"):
        read_settings()


def test_secret_in_place_of_its_files_path_is_not_repeated(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("REDIS_URL")
    environment.setenv("REDIS_URL_FILE", "redis://:canary@host:1/0")
    with pytest.raises(SettingsError, match="REDIS_URL_FILE: cannot read the file: ") as refused:
        read_settings()
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "http://canary"),
        ("MONGODB_URI", "canary"),
        ("DISCORD_WEBHOOK_URL", "ftp://canary"),
        ("MODEL_SIGNING_KEY", "canary"),
        ("FEED_URL", "canary"),
        ("MAX_ATTEMPTS", "canary"),
        ("LOG_LEVEL", "canary"),
        ("RETENTION_DAYS", "0"),
        ("TRAINER_ALLOWED_ESTIMATORS", "lightgbm.LGBMRegressor canary"),
        ("REDIS_KEY_PREFIX", "canary*"),
        ("REDIS_KEY_PREFIX", "canary" * 20),
        ("MONGODB_DATABASE", "canary.a"),
        ("GIT_COMMITTER_NAME", "canary\nparent"),
        ("GIT_COMMITTER_NAME", "canary <"),
        ("GIT_COMMITTER_NAME", " canary"),
        ("GIT_COMMITTER_EMAIL", "canary>"),
        ("GIT_COMMITTER_EMAIL", "canary\x1b[0m"),
        ("GIT_COMMITTER_EMAIL", "canary" * 40),
        ("MONGODB_DATABASE", "canary" * 20),
    ],
)
def test_wrong_setting_is_named_without_its_value(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as caught:
        read_settings()
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("database", "prefix", "wanted"),
    [
        ("", "", "drift_detection:"),
        ("staging", "", "staging:"),
        ("wärme[1]", "", "w%C3%A4rme%5B1%5D:"),  # ASCII, and no sign of Redis' patterns
        ("staging", "trimtab.staging-", "trimtab.staging-"),
    ],
)
def test_keys_begin_with_the_prefix_or_the_databases_name(
    environment: pytest.MonkeyPatch, database: str, prefix: str, wanted: str
) -> None:
    environment.setenv("MONGODB_DATABASE", database)
    environment.setenv("REDIS_KEY_PREFIX", prefix)
    assert read_settings().key_prefix == wanted


def test_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    with pytest.raises(SettingsError, match="REDIS_URL: Field required"):
        read_settings()


def test_visibility_timeout_has_to_exceed_the_time_limit(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("VISIBILITY_TIMEOUT_SECONDS", "100")
    environment.setenv("TASK_TIME_LIMIT_SECONDS", "100")
    with pytest.raises(SettingsError, match="VISIBILITY_TIMEOUT_SECONDS has to exceed"):
        read_settings()


def test_channels_are_separated_by_white_space(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("APPRISE_URLS", "json://a  mailto://b")
    assert [url.get_secret_value() for url in read_settings().apprise_urls] == [
        "json://a",
        "mailto://b",
    ]


def test_allowed_estimators_are_separated_by_white_space(environment: pytest.MonkeyPatch) -> None:
    assert read_settings().trainer_allowed_estimators == ()
    environment.setenv(
        "TRAINER_ALLOWED_ESTIMATORS", "lightgbm.LGBMRegressor\n xgboost.XGBRegressor"
    )
    assert read_settings().trainer_allowed_estimators == (
        "lightgbm.LGBMRegressor",
        "xgboost.XGBRegressor",
    )


@pytest.mark.parametrize(
    "address", ["redis://:sec/ret@broker:6379/0", "redis://:sec?ret@broker:6379/0"]
)
def test_no_part_of_a_password_that_is_not_escaped_is_told(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", address)
    with pytest.raises(SettingsError, match="REDIS_URL") as refused:
        read_settings()
    assert "sec" not in str(refused.value).lower().replace("secret", "")
