"""How every client of ours connects to Kafka: addresses, TLS and a login, in the words of each of the libraries."""

import ssl
from typing import Any

from infra.settings import Settings
from infra.tls import client_context


def aiokafka_options(settings: Settings) -> dict[str, Any]:
    """Return what aiokafka's clients need to connect; SettingsError for a file that cannot be used."""
    options: dict[str, Any] = {"bootstrap_servers": settings.kafka, "security_protocol": _protocol(settings)}
    if settings.kafka_tls:
        options["ssl_context"] = tls_context(settings)
    if settings.kafka_user:
        options |= {
            "sasl_mechanism": settings.kafka_sasl,
            "sasl_plain_username": settings.kafka_user,
            "sasl_plain_password": settings.kafka_password.get_secret_value(),
        }
    return options


def librdkafka_options(settings: Settings) -> dict[str, Any]:
    """Return what librdkafka's clients need to connect; SettingsError for a file that cannot be used."""
    options: dict[str, Any] = {"bootstrap.servers": settings.kafka, "security.protocol": _protocol(settings)}
    if settings.kafka_tls:
        tls_context(settings)  # which says in one sentence what is wrong with a file
        files = {
            "ssl.ca.location": settings.kafka_ca,
            "ssl.certificate.location": settings.kafka_cert,
            "ssl.key.location": settings.kafka_key,
        }
        options |= {name: str(path) for name, path in files.items() if path is not None}
    if settings.kafka_user:
        options |= {
            "sasl.mechanism": settings.kafka_sasl,
            "sasl.username": settings.kafka_user,
            "sasl.password": settings.kafka_password.get_secret_value(),
        }
    return options


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the context for connections to Kafka, None where they are plain; SettingsError for a file that cannot be used."""
    if not settings.kafka_tls:
        return None
    return client_context("OTTLA_KAFKA", ca=settings.kafka_ca, cert=settings.kafka_cert, key=settings.kafka_key)


def _protocol(settings: Settings) -> str:
    return f"{'SASL_' if settings.kafka_user else ''}{'SSL' if settings.kafka_tls else 'PLAINTEXT'}"
