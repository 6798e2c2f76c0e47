"""How every client of ours connects to Cassandra: TLS and a login, as the driver wants them."""

import ssl
from typing import Any

from cassandra.auth import PlainTextAuthProvider

from infra.settings import Settings
from infra.tls import client_context


def security_options(settings: Settings) -> dict[str, Any]:
    """Return what `Cluster` needs besides addresses; SettingsError for a file that cannot be used."""
    options: dict[str, Any] = {}
    if settings.cassandra_tls:
        options["ssl_context"] = tls_context(settings)
    if settings.cassandra_user:
        password = settings.cassandra_password.get_secret_value()
        options["auth_provider"] = PlainTextAuthProvider(settings.cassandra_user, password)
    return options


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Return the context for connections to Cassandra over TLS; SettingsError for a file that cannot be used."""
    return client_context("OTTLA_CASSANDRA", ca=settings.cassandra_ca, cert=settings.cassandra_cert, key=settings.cassandra_key)
