"""The TLS that this server speaks: 1.2 and newer, no compression, tickets so that a caller who comes back need not agree on everything again."""

from __future__ import annotations

import ssl
from pathlib import Path

from roost.web.first_bytes import ALPN


def server_context(chain: Path, key: Path | None = None) -> ssl.SSLContext:
    """A context with this certificate and its chain. `key` None: it is in the same file. Raises OSError (also ssl.SSLError) or ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(ALPN))
    # Without a password here, a key that wants one would stop the start and ask the terminal.
    context.load_cert_chain(chain, key, password=_no_password)
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")
