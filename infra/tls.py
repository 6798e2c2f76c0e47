"""TLS towards the servers: the files that settings name become a context that verifies the server and its name."""

import ssl
from pathlib import Path

from infra.settings import SettingsError


def client_context(setting: str, *, ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """Return a context for clients from PEM files; without `ca` the machine's own authorities count.

    Raises SettingsError with one sentence for a file that cannot be used; `setting` is what the names of its settings begin with.
    """
    what = f"{setting}_CA={ca}"
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            what = f"{setting}_CERT={cert} with {setting}_KEY={key}"
            context.load_cert_chain(cert, key, password="")  # else a key with a password would be asked for on the terminal
    except ssl.SSLError:
        raise SettingsError(f"{what} cannot be used: it must be PEM, and a key the certificate's own, without a password.") from None
    except OSError as error:
        raise SettingsError(f"{what} cannot be read ({error.strerror}): name another file.") from None
    return context
