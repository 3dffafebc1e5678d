"""How a connection to a server is made: which proxies and which certificates count.

A server whose certificate is of an authority of its own is trusted once that authority lies beside the profiles, in a file that bears the
server's address. `roost env` puts it there.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit

from roost.client.config import ConfigError, Target, config_path


class Trust(TypedDict):
    """Arguments of httpx's clients."""

    trust_env: bool
    verify: bool | ssl.SSLContext


def trust(target: Target, env: Mapping[str, str] = os.environ) -> Trust:
    """Proxies and certificates as the environment says; only certificates for a server on this machine, which no proxy can reach.

    Raises ConfigError when certificates that somebody named cannot be read.
    """
    named = bool(env.get("SSL_CERT_FILE") or env.get("SSL_CERT_DIR"))
    known = _known(target, env)
    if known is not None or (target.is_local and named and target.host.startswith("https:")):
        return {"trust_env": not target.is_local, "verify": _context(known, env)}
    return {"trust_env": not target.is_local, "verify": True}


def authority_file(host: str, env: Mapping[str, str] = os.environ) -> Path:
    """Where the authority of the server at this URL is kept, if it is."""
    parts = urlsplit(host)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return config_path(env).parent / "certificates" / f"{(parts.hostname or '').replace(':', '_')}-{port}.pem"


def _known(target: Target, env: Mapping[str, str]) -> Path | None:
    if not target.host.startswith("https:") or env.get("ROOST_RUNNER"):
        return None  # in a runner: never what lies in the home of whoever runs the server
    file = authority_file(target.host, env)
    return file if file.exists() else None


def _context(known: Path | None, env: Mapping[str, str]) -> ssl.SSLContext:
    file, folder = env.get("SSL_CERT_FILE"), env.get("SSL_CERT_DIR")
    try:
        context = ssl.create_default_context(cafile=file, capath=folder)
    except OSError as error:
        raise ConfigError(
            f"The certificates of SSL_CERT_FILE={file or ''} and SSL_CERT_DIR={folder or ''} cannot be read: {error}.",
            hint="Name a file of certificates in PEM form, or unset the variable.",
        ) from error
    if known is not None:
        try:
            context.load_verify_locations(cafile=known)
        except OSError as error:
            raise ConfigError(
                f"The server's certificate authority in {known} cannot be read: {error}.",
                hint="Delete the file; `roost env` fetches it again.",
            ) from error
    return context
