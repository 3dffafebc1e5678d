"""The public certificates that programs on this machine trust."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from pathlib import Path

# Where distributions keep them, for interpreters that were built elsewhere and look in a folder that is not there.
_USUAL = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def certificates(environ: Mapping[str, str], but: Path) -> str:
    """In PEM: those of SSL_CERT_FILE, else the system's, else certifi's. Never those of `but`, the file that they are for: it would grow."""
    for path in (environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().openssl_cafile, *_USUAL):
        if path and not _same(Path(path), but):
            with contextlib.suppress(OSError, ValueError):
                text = Path(path).read_text(encoding="utf-8")
                if "BEGIN CERTIFICATE" in text:
                    return text
    import certifi

    return Path(certifi.where()).read_text(encoding="utf-8")


def _same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return False
