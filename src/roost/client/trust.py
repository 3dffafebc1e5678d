"""How a connection to a server is made: which proxies and which certificates count."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import TypedDict

from roost.client.config import ConfigError, Target


class Trust(TypedDict):
    """Arguments of httpx's clients."""

    trust_env: bool
    verify: bool | ssl.SSLContext


def trust(target: Target, env: Mapping[str, str] = os.environ) -> Trust:
    """Proxies and certificates as the environment says; only certificates for a server on this machine, which no proxy can reach.

    Raises ConfigError when SSL_CERT_FILE or SSL_CERT_DIR cannot be read.
    """
    if not target.is_local:
        return {"trust_env": True, "verify": True}
    file, folder = env.get("SSL_CERT_FILE"), env.get("SSL_CERT_DIR")
    if not target.host.startswith("https:") or not (file or folder):
        return {"trust_env": False, "verify": True}
    try:
        return {"trust_env": False, "verify": ssl.create_default_context(cafile=file, capath=folder)}
    except OSError as error:
        raise ConfigError(
            f"The certificates of SSL_CERT_FILE={file or ''} and SSL_CERT_DIR={folder or ''} cannot be read: {error}.",
            hint="Name a file of certificates in PEM form, or unset the variable.",
        ) from error
