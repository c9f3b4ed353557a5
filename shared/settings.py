"""Settings from the environment. Secrets may stand in a file instead: NAME_FILE holds its path."""

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import parse_qs, quote, unquote_plus, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from shared.addresses import is_exposed
from shared.git_names import require_committer

_SHORTEST_KEY: Final = 16
S = TypeVar("S", bound="LogSettings")


class SettingsError(ValueError):
    """A setting is missing or wrong; the text names it."""


_ESCAPE: Final = "/, ?, #, @ and % of a password are written %2F, %3F, %23, %40 and %25"


def _has_scheme(*schemes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        scheme = value.get_secret_value().partition("://")[0]
        if scheme not in schemes:
            raise ValueError(f"has to begin with one of {', '.join(s + '://' for s in schemes)}")
        return value

    return AfterValidator(check)


def _verified_tls(value: SecretStr) -> SecretStr:
    """Options of the address that would let anybody pose as the broker are refused."""
    try:
        address = urlsplit(value.get_secret_value())
        query, _ = parse_qs(address.query), address.port
    except ValueError:  # whose text may hold a part of the password
        raise ValueError(f"is not an address that can be read: {_ESCAPE}") from None
    for option, wanted in (("ssl_cert_reqs", "required"), ("ssl_check_hostname", "true")):
        if {given.lower() for given in query.get(option, ())} - {wanted}:
            raise ValueError(f"{option} has to be {wanted!r}: anybody could pose as the broker")
    return value


_BETWEEN_OPTIONS: Final = re.compile("[&;?]")
_UNVERIFIED: Final = {
    name.lower(): name
    for name in (
        "tlsInsecure",
        "tlsAllowInvalidCertificates",
        "tlsAllowInvalidHostnames",
        "tlsDisableOCSPEndpointCheck",
        # Of earlier versions of PyMongo.
        "ssl_cert_reqs",
        "ssl_match_hostname",
    )
}
"""Options of MongoDB, in small letters since PyMongo reads them so -> as they are written."""


def _options(address: SecretStr) -> Iterator[tuple[str, str]]:
    """The options of an address: their names in small letters, and what is stated."""
    _, _, options = address.get_secret_value().partition("?")
    for option in _BETWEEN_OPTIONS.split(options):
        name, _, stated = option.partition("=")
        yield unquote_plus(name).strip().lower(), stated


def _verified_store(value: SecretStr) -> SecretStr:
    """Options of the address that would let anybody pose as the store are refused."""
    for name, stated in _options(value):
        unverified = _UNVERIFIED.get(name)
        if unverified and stated != "false":
            raise ValueError(f"{unverified} has to be left out: anybody could pose as the store")
    return value


_YES: Final = frozenset({"yes", "true", "1", "on"})


def _verified_channel(value: SecretStr) -> SecretStr:
    """`verify=no` of an Apprise URL would let anybody pose as the channel."""
    for name, stated in _options(value):
        if name == "verify" and stated.lower() not in _YES:
            raise ValueError("verify has to be left out: anybody could pose as the channel")
    return value


def _long_keys(value: SecretStr) -> SecretStr:
    """One key a line. A short one could be guessed."""
    if min(map(len, value.get_secret_value().splitlines()), default=0) < _SHORTEST_KEY:
        raise ValueError(f"each line has to be a key of at least {_SHORTEST_KEY} characters")
    return value


_KEY_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_NOT_IN_A_DATABASE: Final = frozenset('/\\. "$*<>:|?\0')
_LONGEST_DATABASE: Final = 63


def _key_prefix(value: str) -> str:
    """A prefix that also a pattern of Redis' access list and KEDA's `listName` can name."""
    if not _KEY_PREFIX.fullmatch(value):
        raise ValueError("may have 1 to 64 characters: A-Z a-z 0-9 _ . : -")
    return value


def _database_name(value: str) -> str:
    """A name that MongoDB takes for a database."""
    if not 0 < len(value.encode()) <= _LONGEST_DATABASE or _NOT_IN_A_DATABASE & set(value):
        raise ValueError(
            f'may have 1 to {_LONGEST_DATABASE} bytes, and none of / \\ . " $ * < > : | ? or space'
        )
    return value


def _words(value: object) -> object:
    return value.split() if isinstance(value, str) else value


RedisUrl = Annotated[SecretStr, _has_scheme("redis", "rediss"), AfterValidator(_verified_tls)]
MongoUri = Annotated[
    SecretStr, _has_scheme("mongodb", "mongodb+srv"), AfterValidator(_verified_store)
]
AppriseUrl = Annotated[SecretStr, AfterValidator(_verified_channel)]
SigningKeys = Annotated[SecretStr, AfterValidator(_long_keys)]
DottedName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
CommitterName = Annotated[str, AfterValidator(require_committer)]
WebhookUrl = Annotated[SecretStr, _has_scheme("https", "http")]


class FileSource(PydanticBaseSettingsSource):
    """Reads NAME from the file that NAME_FILE names, as container secrets are given."""

    def get_field_value(
        self,
        field: FieldInfo,  # noqa: ARG002 - the base class's signature
        field_name: str,
    ) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{field_name.upper()}_FILE")
        if not path:
            return None, field_name, False
        if os.environ.get(field_name.upper()):
            name = field_name.upper()
            raise SettingsError(f"{name} and {name}_FILE are both set; keep one")
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            # What does not look like a path may be the secret itself, given in the wrong variable.
            place = f" {path}" if path.startswith(("/", ".")) else ""
            raise SettingsError(
                f"{field_name.upper()}_FILE: cannot read the file{place}: {why}"
            ) from None

    def __call__(self) -> dict[str, Any]:
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        # An empty file sets nothing.
        return {name: value for name, value in values.items() if value}


class LogSettings(BaseSettings):
    """How a process logs. Read by itself, so that a fault in the other settings can be logged."""

    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    log_format: Literal["text", "json"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, FileSource(settings_cls)


class Settings(LogSettings):
    """Everything that differs between one installation and another."""

    redis_url: RedisUrl
    mongodb_uri: MongoUri | None = None
    """Flower does not need it. Without it beat does not check whose broker it is."""
    mongodb_database: Annotated[str, AfterValidator(_database_name)] = "drift_detection"
    redis_key_prefix: Annotated[str, AfterValidator(_key_prefix)] | None = None
    """What every key on the broker begins with; if empty, the database's name and a colon. Each
    installation on one Redis needs its own."""
    pipelines: Path = Path("pipelines")
    """The folder of pipeline files."""

    plain_http_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = ()
    """Hosts besides this machine that may be spoken to over http://, separated by white space. What
    is said to them can be read and changed on the way."""
    feed_url: str = Field("https://api.data.gov.in", pattern=r"^https?://")
    data_gov_in_api_key: SecretStr | None = None

    model_repository: str | None = None
    """An HTTPS address, or a path of a bare repository."""
    github_username: str | None = None
    github_token: SecretStr | None = None
    git_cache: Path = Path(".trimtab/git")
    git_committer_name: CommitterName = "Trimtab"
    """Who commits, and is named as the author, on the model repository."""
    git_committer_email: CommitterName = "trimtab@localhost"

    git_signing_key_file: Path | None = None
    """The file of a private SSH key (Ed25519, without passphrase) that signs tags and commits on
    the model repository. Only the publisher needs it, and only Git reads it. An empty file is no
    key."""

    discord_webhook_url: WebhookUrl | None = None
    apprise_urls: Annotated[tuple[AppriseUrl, ...], NoDecode, BeforeValidator(_words)] = ()
    """Further channels, separated by white space."""

    event_key: SigningKeys | None = None
    """Authenticates messages and records. All workers, beat and the commands need it; the broker,
    the store, Flower and the exporter do not have it. One key a line, as MODEL_SIGNING_KEY."""

    operators: str | None = None
    """Whose requests are carried out: `name ssh-ed25519 AAAA…` a line, public keys. The drift
    worker, the trainer and the commands need it."""
    operator_key: SecretStr | None = None
    """The private SSH key (Ed25519) of the person at the command line; no worker has it. Commands
    that ask for something need it, and ask for its passphrase if it has one."""

    model_signing_key: SigningKeys | None = None
    """Seals models; only the trainer and those who load models need it. One key a line: the first
    seals, and what any of them has sealed is loaded."""
    trainer_allowed_estimators: Annotated[
        tuple[DottedName, ...], NoDecode, BeforeValidator(_words)
    ] = ()
    """Further classes that `training.estimator` may name, separated by white space."""
    trainer_cores: int | None = Field(None, ge=1)
    """What a fit may use; none: all cores that the process may use."""
    trainer_joblib_backend: Literal["local", "dask"] = "local"
    trainer_dask_scheduler: str | None = Field(None, pattern=r"^(tcp|tls)://[^@\s]+:[0-9]+$")
    """The address of the Dask cluster that forests are fitted on, such as tcp://host:8786."""

    max_attempts: int = Field(5, ge=1, le=100)
    """An event that has failed this often becomes a dead letter."""
    retry_base_seconds: float = Field(2.0, gt=0)
    retry_max_seconds: float = Field(300.0, gt=0)
    lease_seconds: float = Field(30.0, ge=1)
    """A worker that does not renew its lease for this long has lost its work to another."""
    task_time_limit_seconds: int = Field(1800, ge=10)
    visibility_timeout_seconds: int = Field(7200, ge=20)
    """When Redis delivers an unacknowledged message again; has to exceed the task time limit."""
    sweep_seconds: float = Field(10.0, gt=0)
    watch_seconds: float = Field(300.0, ge=1)
    """How often the publisher looks whether somebody else changed what it published."""
    redeliver_after_seconds: float = Field(60.0, gt=0)
    """An event without its consumer's record after this time may be sent again."""
    retention_days: int = Field(400, ge=1)

    heartbeat_file: Path | None = None
    """Touched whenever a worker or beat has made progress, for health checks to look at."""
    exporter_address: str = "127.0.0.1"
    """Where the exporter listens; in a container 0.0.0.0, on a network of its own."""
    exporter_port: int = Field(9464, ge=1, le=65_535)
    """Customary for exporters of no product of their own (OpenTelemetry's default)."""

    @property
    def key_prefix(self) -> str:
        """What every key on the broker begins with; ASCII, whatever the database's name holds."""
        return self.redis_key_prefix or f"{quote(self.mongodb_database, safe='')}:"

    @property
    def committer(self) -> str:
        """Who commits, as Git writes it: `name <address>`."""
        return f"{self.git_committer_name} <{self.git_committer_email}>"

    def model_post_init(self, _context: object) -> None:
        if self.trainer_joblib_backend == "dask" and not self.trainer_dask_scheduler:
            raise SettingsError(
                "TRAINER_DASK_SCHEDULER is not set; TRAINER_JOBLIB_BACKEND=dask needs the address "
                "of a scheduler, such as tcp://host:8786"
            )
        self._require_https("MODEL_REPOSITORY", self.model_repository)
        self._require_https("DISCORD_WEBHOOK_URL", self.discord_webhook_url)
        if self.data_gov_in_api_key:
            self._require_https("FEED_URL", self.feed_url, " with DATA_GOV_IN_API_KEY")
        if self.visibility_timeout_seconds <= self.task_time_limit_seconds:
            raise SettingsError(
                "VISIBILITY_TIMEOUT_SECONDS has to exceed TASK_TIME_LIMIT_SECONDS: Redis delivers "
                "a message again after it, and the task would run twice"
            )

    def _require_https(self, name: str, address: str | SecretStr | None, sent: str = "") -> None:
        if isinstance(address, SecretStr):
            address = address.get_secret_value()
        try:
            exposed = is_exposed(address or "", self.plain_http_hosts)
        except ValueError:  # whose text may hold a part of the address
            raise SettingsError(f"{name} is not an address that can be read") from None
        if exposed:
            raise SettingsError(
                f"{name} begins with http://{sent}: what is sent can be read and changed on the "
                "way. Use https://, or name the host in PLAIN_HTTP_HOSTS"
            )


def read_settings(**overrides: Any) -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: names every setting that is missing or wrong, without its value.
    """
    return _read(Settings, **overrides)


def read_log_settings() -> LogSettings:
    """How this process is to log.

    Raises:
        SettingsError: LOG_FORMAT or LOG_LEVEL is wrong.
    """
    return _read(LogSettings)


def _read(kind: type[S], **overrides: Any) -> S:
    try:
        return kind(**overrides)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])).upper()}: "
            f"{fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError(f"wrong settings: {'; '.join(faults)}") from None


@cache
def settings() -> Settings:
    """The settings, read once a process."""
    return read_settings()
