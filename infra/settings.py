"""Every setting of every role, read once from the environment and `.env`.

Each variable is a field here and nowhere else: its name is `OTTLA_` and the field's name in capitals, its description is the
line of help that `ottla config` prints. Secrets that nobody set are made on first run and kept in `OTTLA_HOME/secrets.json`,
readable by the owner alone, so that all roles of one installation agree on them.
"""

import difflib
import json
import os
import re
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.env_file import ENV_FILE, read_env_file
from infra.errors import UsageError
from schemas.topics import RAW_RETENTION_DAYS

PREFIX = "OTTLA_"
_MADE_ON_FIRST_RUN = ("whatsapp_app_secret", "whatsapp_verify_token", "whatsapp_token", "admin_key")
_PASSED_BETWEEN_PROCESSES = frozenset(
    {
        "OTTLA_LOG_STYLE",
        "OTTLA_READY_URLS",
        "OTTLA_SIMULATOR_FAULTS",
        "OTTLA_SIMULATOR_HOST",
        "OTTLA_SIMULATOR_PORT",
        "OTTLA_SUPERVISED",
        "OTTLA_TEST_FAULTS",
    }
)
"""Variables that `ottla up` and tests hand to the processes they start; nobody sets them by hand."""

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
_PORT_MAX = 65535

Origin = Literal["environment", ".env", "default", "made"]


class SettingsError(UsageError):
    """A setting that cannot be used; its text is one sentence that says what to change."""


@dataclass(frozen=True, kw_only=True)
class SettingOrigin:
    """A setting by the name of its variable, and where its value comes from."""

    field: str
    variable: str
    origin: Origin
    help: str


class Settings(BaseSettings):
    """The settings of one process; frozen, so that no part can change what another one read."""

    model_config = SettingsConfigDict(
        env_prefix="OTTLA_", env_file=ENV_FILE, env_file_encoding="utf-8", extra="ignore", frozen=True, env_ignore_empty=True
    )

    home: Path = Field(Path(".ottla"), description="data of local servers and workers, logs")
    host: str = Field("127.0.0.1", description="address the ingress listens on")
    port: int = Field(8000, ge=1, le=65535, description="HTTP port of the ingress")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of /metrics of the other roles; 0: a free one")
    role_urls: str = Field(
        "",
        description="base URLs of the other roles' servers, with commas: the ingress adds their figures up; `up` names its own",
    )
    metrics_host: str = Field("127.0.0.1", description="address the other roles serve /metrics on, to whoever reaches it")
    worker: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,100}$",
        description="stable identity of this process: group instance id and data folder; empty: made",
    )
    kafka: str = Field("", description="bootstrap servers; empty: the local broker that `up` or `infra up` starts")
    cassandra: str = Field("", description="host:port,...; empty: the local node that `up` or `infra up` starts")
    kafka_tls: bool = Field(False, description="whether the brokers are spoken to over TLS")
    kafka_ca: Path | None = Field(None, description="PEM file of the authorities that sign the brokers; empty: the machine's own")
    kafka_cert: Path | None = Field(None, description="PEM file of our client certificate, where the brokers want one")
    kafka_key: Path | None = Field(None, validate_default=True, description="PEM file of its key, without a password")
    kafka_sasl: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field("SCRAM-SHA-512", description="how OTTLA_KAFKA_USER logs in")
    kafka_user: str = Field("", description="user at the brokers; empty: no login")
    kafka_password: SecretStr = Field(SecretStr(""), validate_default=True, description="password of OTTLA_KAFKA_USER")
    cassandra_tls: bool = Field(False, description="whether Cassandra is spoken to over TLS")
    cassandra_ca: Path | None = Field(None, description="PEM file of the authorities that sign the nodes; empty: the machine's own")
    cassandra_cert: Path | None = Field(None, description="PEM file of our client certificate, where the nodes want one")
    cassandra_key: Path | None = Field(None, validate_default=True, description="PEM file of its key, without a password")
    cassandra_user: str = Field("", description="user at Cassandra; empty: no login")
    cassandra_password: SecretStr = Field(SecretStr(""), validate_default=True, description="password of OTTLA_CASSANDRA_USER")
    keyspace: str = Field("ottla", pattern=r"^[a-z][a-z0-9_]{0,47}$", description="Cassandra keyspace of this installation")
    topic_prefix: str = Field("", pattern=r"^[a-zA-Z0-9._-]{0,100}$", description="prefix of every topic of this installation")
    partitions: int = Field(8, ge=1, le=1000, description="partitions of each message topic, fixed when they are created")
    replication: int = Field(0, ge=0, le=9, description="replicas of each partition; 0: min(3, brokers)")
    raw_retention_days: int = Field(
        RAW_RETENTION_DAYS,
        ge=9,
        le=3650,
        description="days that [raw] is kept, raised when topics are made and never lowered; `archive` keeps it for longer",
    )
    archive: str = Field("", description="folder of what `archive` keeps and replay reads; empty: OTTLA_HOME/archive")
    whatsapp_api: str = Field("", description="base URL with version; empty: the simulated platform that `up` starts")
    whatsapp_app_secret: SecretStr = Field(SecretStr(""), description="signs webhooks; several with commas while rotating")
    whatsapp_verify_token: SecretStr = Field(SecretStr(""), description="answers the webhook verification challenge")
    whatsapp_token: SecretStr = Field(SecretStr(""), description="bearer token for sends of accounts that name none")
    ai_url: str = Field("", description="any OpenAI-compatible base URL; empty: the offline agent")
    ai_key: SecretStr = Field(SecretStr(""), description="bearer key of the model endpoint")
    ai_model: str = Field("default", description="model name sent to the endpoint")
    ai_timeout: float = Field(30.0, gt=0, le=600, description="seconds a turn may take before the fallback text is sent")
    ai_concurrency: int = Field(512, ge=1, le=10000, description="model calls under way at once, of one stream worker")
    unknown: Literal["park", "resend"] = Field(
        "park", description="what becomes of a send whose answer was lost: parked and listed, or sent once more and marked"
    )
    unknown_wait: float = Field(60.0, ge=0, le=3600, description="seconds such a send waits for a status that settles it")
    number_rate: float = Field(
        80.0,
        ge=0,
        le=100_000,
        description="messages a second of a number whose account says nothing, in and out together, over all workers; 0: no limit",
    )
    pair_rate: float = Field(
        1.0, ge=0, le=1000, description="1: to one recipient a burst of 45, then 1 in 6 s (2: 2 in 6 s, ...); 0: no limit"
    )
    planned_after: float = Field(
        30.0, ge=0, le=3600, description="seconds a send may wait in memory; one that waits longer goes to [ledger]"
    )
    admin_key: SecretStr = Field(SecretStr(""), description="bearer key of the default tenant's and the admin API")
    canary_interval: float = Field(
        60.0, ge=0, le=86_400, description="seconds between the canaries that go the whole way to show that it is open; 0: none"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least severe log line shown")

    @field_validator("home")
    @classmethod
    def _home(cls, value: Path) -> Path:
        return value.expanduser()

    @field_validator("kafka", "cassandra")
    @classmethod
    def _servers(cls, value: str) -> str:
        servers = [server.strip() for server in value.split(",") if server.strip()]
        for server in servers:
            host, colon, port = server.rpartition(":")
            if not colon or not host or not port.isdigit() or not 0 < int(port) <= _PORT_MAX:
                raise ValueError(f"{server!r} is not host:port")
        return ",".join(servers)

    @field_validator("kafka_ca", "kafka_cert", "cassandra_ca", "cassandra_cert")
    @classmethod
    def _with_tls(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        server = str(info.field_name).partition("_")[0]
        if value is not None and not info.data.get(f"{server}_tls"):
            raise ValueError(f"it is for TLS, so set {PREFIX}{server.upper()}_TLS=true too")
        return value

    @field_validator("kafka_key", "cassandra_key")
    @classmethod
    def _with_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        server = str(info.field_name).partition("_")[0]
        if (value is None) != (info.data.get(f"{server}_cert") is None):
            raise ValueError(f"it and {PREFIX}{server.upper()}_CERT are set together or not at all")
        return value

    @field_validator("kafka_password", "cassandra_password")
    @classmethod
    def _with_user(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        server = str(info.field_name).partition("_")[0]
        if bool(value.get_secret_value()) != bool(info.data.get(f"{server}_user")):
            raise ValueError(f"it and {PREFIX}{server.upper()}_USER are set together or not at all")
        return value

    @field_validator("whatsapp_api", "ai_url")
    @classmethod
    def _url(cls, value: str) -> str:
        if not value:
            return value
        try:
            parts = urlsplit(value)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("it must be a URL that starts with http:// or https:// and names a host")
        return value.rstrip("/")

    @field_validator("role_urls")
    @classmethod
    def _urls(cls, value: str) -> str:
        return ",".join(cls._url(url.strip()) for url in value.split(",") if url.strip())

    @field_validator("ai_url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        if value.endswith("/chat/completions"):
            raise ValueError("give the base URL, without /chat/completions")
        return value

    @field_validator(
        "whatsapp_app_secret", "whatsapp_verify_token", "whatsapp_token", "ai_key", "admin_key", "kafka_password", "cassandra_password"
    )
    @classmethod
    def _secret(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value().strip()
        if _CONTROL_CHARACTER.search(text):
            raise ValueError("it holds a line break or another control character")
        return SecretStr(text)

    @field_validator("whatsapp_app_secret")
    @classmethod
    def _app_secret(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text and not any(part.strip() for part in text.split(",")):
            raise ValueError("it holds commas and no secret")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _log_level(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @property
    def ingress_url(self) -> str:
        """Where a client on this machine reaches the ingress."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def secret_values(self) -> list[str]:
        """Return every secret as it is set, and each of several one by one."""
        values = [value.get_secret_value() for _, value in self if isinstance(value, SecretStr) and value.get_secret_value()]
        return [*values, *(part.strip() for value in values if "," in value for part in value.split(",") if part.strip())]

    @property
    def archive_folder(self) -> Path:
        """Where archives of the log are."""
        return Path(self.archive).expanduser() if self.archive else self.home / "archive"

    @property
    def app_secrets(self) -> tuple[bytes, ...]:
        """Secrets any of which may have signed a webhook."""
        return tuple(part.strip().encode() for part in self.whatsapp_app_secret.get_secret_value().split(",") if part.strip())


def read_settings() -> Settings:
    """Return the settings as they are set, and make nothing; SettingsError or EnvFileError as `load_settings`."""
    read_env_file()
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{name} cannot be used: {_reason(first['msg'])}.") from None


def load_settings() -> Settings:
    """Read the settings; make the secrets that nobody set.

    Raises SettingsError or EnvFileError with one sentence for a value that cannot be used, a folder that cannot be written or a broken
    `.env`.
    """
    settings = read_settings()
    home = settings.home.resolve()
    made = _made_secrets(home)
    missing = {name: SecretStr(made[name]) for name in _MADE_ON_FIRST_RUN if not getattr(settings, name).get_secret_value()}
    worker = settings.worker or f"worker-{uuid.uuid4().hex[:8]}"
    return settings.model_copy(update={**missing, "home": home, "worker": worker})


def setting_origins() -> list[SettingOrigin]:
    """Return every setting with where `load_settings` takes it from."""
    environment, env_file = _names(os.environ), _names(read_env_file())
    origins: list[SettingOrigin] = []
    for name, field in Settings.model_fields.items():
        variable = PREFIX + name.upper()
        origin: Origin = "made" if name in {*_MADE_ON_FIRST_RUN, "worker"} else "default"
        if variable in environment:
            origin = "environment"
        elif variable in env_file:
            origin = ".env"
        origins.append(SettingOrigin(field=name, variable=variable, origin=origin, help=field.description or ""))
    return origins


def unknown_variables() -> list[str]:
    """Return a sentence for each OTTLA_ variable that nobody reads, with the nearest one that is read."""
    known = {name.upper() for name in Settings.model_fields}
    sentences = []
    for place, names in (("the environment", os.environ), (str(ENV_FILE), read_env_file())):
        ours = {name.upper() for name in names if name.upper().startswith(PREFIX)} - _PASSED_BETWEEN_PROCESSES
        for name in sorted({name.removeprefix(PREFIX) for name in ours} - known):
            nearest = difflib.get_close_matches(name, known, n=1)
            sentences.append(f"{PREFIX}{name} in {place} is no setting" + (f": did you mean {PREFIX}{nearest[0]}?" if nearest else "."))
    return sentences


def _names(variables: Mapping[str, str]) -> set[str]:
    return {name.upper() for name, value in variables.items() if value}


def _reason(message: str) -> str:
    reason = message.removeprefix("Value error, ").rstrip(".")
    return reason[:1].lower() + reason[1:]


def _made_secrets(home: Path) -> dict[str, str]:
    """Return the made secrets of this home, made now if there are none; two processes at once agree on one set."""
    path = home / "secrets.json"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            draft = home / f".secrets.{uuid.uuid4().hex}"
            draft.touch(mode=0o600)
            draft.write_text(json.dumps({name: secrets.token_urlsafe(24) for name in _MADE_ON_FIRST_RUN}))
            try:
                # A link fails where the file exists, so the first process wins and a reader never sees half a file.
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        made: dict[str, str] = json.loads(path.read_text())
        return {name: made[name] for name in _MADE_ON_FIRST_RUN}
    except OSError as error:
        raise SettingsError(f"OTTLA_HOME={home} cannot be written ({error.strerror}): name a folder of yours.") from None
    except (ValueError, KeyError, TypeError):
        raise SettingsError(f"{path} is damaged: remove it and new secrets are made.") from None
