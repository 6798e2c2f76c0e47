"""Every setting of every role, read once from the environment and `.env`.

Each variable is a field here and nowhere else: its name is `OTTLA_` and the field's name in capitals, its description is the
line of help that `ottla config` prints. Secrets that nobody set are made on first run and kept in `OTTLA_HOME/secrets.json`,
readable by the owner alone, so that all roles of one installation agree on them.
"""

import json
import os
import secrets
import uuid
from pathlib import Path
from typing import Literal

from dotenv.parser import parse_stream
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.errors import UsageError

ENV_FILE = Path(".env")
_MADE_ON_FIRST_RUN = ("whatsapp_app_secret", "whatsapp_verify_token", "whatsapp_token", "admin_key")


class SettingsError(UsageError):
    """A setting that cannot be used; its text is one sentence that says what to change."""


class Settings(BaseSettings):
    """The settings of one process; frozen, so that no part can change what another one read."""

    model_config = SettingsConfigDict(
        env_prefix="OTTLA_", env_file=ENV_FILE, env_file_encoding="utf-8", extra="ignore", frozen=True, env_ignore_empty=True
    )

    home: Path = Field(Path(".ottla"), description="data of local servers and workers, logs")
    host: str = Field("127.0.0.1", description="address the ingress listens on; every other role stays on loopback")
    port: int = Field(8000, ge=1, le=65535, description="HTTP port of the ingress")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of /metrics of the other roles; 0: a free one")
    worker: str = Field("", description="stable identity of this process: group instance id and data folder; empty: made")
    kafka: str = Field("", description="bootstrap servers; empty: the local broker that `up` or `infra up` starts")
    cassandra: str = Field("", description="host:port,...; empty: the local node that `up` or `infra up` starts")
    keyspace: str = Field("ottla", pattern=r"^[a-z][a-z0-9_]{0,47}$", description="Cassandra keyspace of this installation")
    topic_prefix: str = Field("", pattern=r"^[a-zA-Z0-9._-]{0,100}$", description="prefix of every topic of this installation")
    partitions: int = Field(8, ge=1, le=1000, description="partitions of each message topic, fixed when they are created")
    replication: int = Field(0, ge=0, le=9, description="replicas of each partition; 0: min(3, brokers)")
    whatsapp_api: str = Field("", description="base URL with version; empty: the simulated platform that `up` starts")
    whatsapp_app_secret: SecretStr = Field(SecretStr(""), description="signs webhooks; several with commas while rotating")
    whatsapp_verify_token: SecretStr = Field(SecretStr(""), description="answers the webhook verification challenge")
    whatsapp_token: SecretStr = Field(SecretStr(""), description="bearer token for sends of accounts that name none")
    ai_url: str = Field("", description="any OpenAI-compatible base URL; empty: the offline agent")
    ai_key: SecretStr = Field(SecretStr(""), description="bearer key of the model endpoint")
    ai_model: str = Field("default", description="model name sent to the endpoint")
    ai_timeout: float = Field(30.0, gt=0, le=600, description="seconds a turn may take before the fallback text is sent")
    ai_concurrency: int = Field(512, ge=1, le=10000, description="model calls under way at once, of one stream worker")
    admin_key: SecretStr = Field(SecretStr(""), description="bearer key of the default tenant's and the admin API")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least severe log line shown")

    @field_validator("kafka", "cassandra")
    @classmethod
    def _servers(cls, value: str) -> str:
        for server in filter(None, value.split(",")):
            host, colon, port = server.strip().rpartition(":")
            if not colon or not host or not port.isdigit() or not 0 < int(port) <= 65535:  # noqa: PLR2004
                raise ValueError(f"{server!r} is not host:port")
        return value

    @field_validator("whatsapp_api", "ai_url")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @property
    def app_secrets(self) -> tuple[bytes, ...]:
        """Secrets any of which may have signed a webhook."""
        return tuple(part.strip().encode() for part in self.whatsapp_app_secret.get_secret_value().split(",") if part.strip())


def load_settings() -> Settings:
    """Read the settings; make the secrets that nobody set.

    Raises SettingsError with one sentence for a broken `.env`, a value that cannot be used or a folder that cannot be written.
    """
    _check_env_file(ENV_FILE)
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "OTTLA_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{name} cannot be used: {first['msg'].removeprefix('Value error, ')}.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{ENV_FILE} is not UTF-8 text: save it again as UTF-8.") from None
    made = _made_secrets(settings.home.resolve())
    missing = {name: SecretStr(made[name]) for name in _MADE_ON_FIRST_RUN if not getattr(settings, name).get_secret_value()}
    worker = settings.worker or f"worker-{uuid.uuid4().hex[:8]}"
    return settings.model_copy(update={**missing, "home": settings.home.resolve(), "worker": worker})


def _check_env_file(path: Path) -> None:
    """Refuse a `.env` with a line that no reader could mean: python-dotenv alone would only skip it."""
    if not path.is_file():
        return
    try:
        with path.open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text: save it again as UTF-8.") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from None
    for binding in bindings:
        if binding.error or (binding.key and binding.value is None):
            raise SettingsError(f"{path} line {binding.original.line} is not NAME=value: {binding.original.string.strip()[:40]!r}.")


def _made_secrets(home: Path) -> dict[str, str]:
    """Return the made secrets of this home, made now if there are none; two processes at once agree on one set."""
    path = home / "secrets.json"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            draft = home / f".secrets.{os.getpid()}"
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
        raise SettingsError(f"OTTLA_HOME={home} cannot be used: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError):
        raise SettingsError(f"{path} is damaged: remove it and new secrets are made.") from None
