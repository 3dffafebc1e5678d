"""How a server can be reached from here with TLS: its addresses, which of them answer, and its authority kept beside the profiles.

The authority is trusted at its first sight, as SSH trusts a host. One that has changed since is refused, except on this machine, where whoever
could put another in its place could as well change the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from roost.client.config import Target
from roost.client.lighthttp import httpx
from roost.client.trust import authority_file
from roost.control.errors import ControlError, Unreachable
from roost.control.probe import nobody_there
from roost.control.recipes import Addresses, Files, Way, candidates, is_address, is_local

_PATIENCE_S = 5.0
_PUBLIC_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


@dataclass(frozen=True, slots=True)
class Kept:
    """The authority's certificate on this machine."""

    files: Files
    fingerprint: str
    """SHA-256, as openssl writes it."""
    is_new: bool


def ask(target: Target, *, transport: httpx.BaseTransport | None = None) -> Addresses:
    """What the server says of its addresses. No key is sent, so that it may be asked before its certificate is known."""
    try:
        # Not verified: whom to trust is what is asked for. `keep` judges the answer, and no other call is made like this.
        with _http(verify=False, is_near=target.is_local, transport=transport) as http:
            response = http.get(f"{target.host}/v1/addresses")
    except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
        raise nobody_there(target) from exc
    except httpx.TransportError as exc:
        raise Unreachable(f"The connection to {target.host} broke: {exc}", hint="Run the same command again.") from exc
    try:
        value = response.json() if response.is_success else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ControlError(
            f"{target.host} does not say where else it can be reached ({response.status_code}).",
            hint="Is this address a roost server, of this version or a newer one?",
        )
    return Addresses.from_json(value)


def find_way(told: Addresses, dialled: str, env: Mapping[str, str] = os.environ) -> Way | str:
    """The first address that answers over TLS, as other programs of this machine would dial it; else why the last one did not."""
    reason = "it has no address with TLS"
    for base in candidates(told, dialled):
        context = ssl.create_default_context(cadata=public_certificates(authority_file(base, env), env) or None)
        reason = _why_not(base, context)
        if reason and told.ca:
            try:
                context.load_verify_locations(cadata=told.ca)
            except ssl.SSLError as exc:
                raise ControlError(f"{dialled} sent a certificate authority that is none: {exc}.") from exc
            reason = _why_not(base, context)
            if not reason:
                return Way(base, needs_ca=True)
        elif not reason:
            return Way(base, needs_ca=False)
    return reason


def keep(ca: str, base: str, env: Mapping[str, str] = os.environ) -> Kept:
    """Write the authority of the server at this URL, and a bundle with the public ones, beside the profiles.

    Raises ControlError if it is another one than before.
    """
    file = authority_file(base, env)
    bundle = _bundle_beside(file)
    pem = f"{ca.strip()}\n"
    fingerprint = _fingerprint(pem)
    before = _read(file)
    if before and before != pem and not is_local(base):
        raise ControlError(
            f"The certificate authority of {base} is another one than before: SHA-256 {fingerprint}.",
            hint=f"If the server was set up anew, delete {file} and type the command again. If not, somebody is between you and it.",
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(file, pem)
        _write(bundle, f"{public_certificates(file, env).strip()}\n{pem}")
    except OSError as exc:
        raise ControlError(f"{file.parent} cannot be written to: {exc.strerror}.", hint="ROOST_CONFIG names another place.") from exc
    return Kept(Files(str(file), str(bundle)), fingerprint, not before)


def public_certificates(authority: Path, env: Mapping[str, str] = os.environ) -> str:
    """The certificates in PEM that this machine trusts: those of SSL_CERT_FILE, unless we wrote it for this authority, else the system's."""
    named = env.get("SSL_CERT_FILE", "")
    if named and Path(named) != _bundle_beside(authority) and (text := _read(Path(named))):
        return text
    paths = ssl.get_default_verify_paths()
    for file in (paths.openssl_cafile, *_PUBLIC_CERTIFICATES):
        if text := _read(Path(file)):
            return text
    with contextlib.suppress(ImportError):
        import certifi

        return _read(Path(certifi.where()))
    return ""


def _why_not(base: str, context: ssl.SSLContext) -> str:
    """Why this is not the address of a server for others; "" if it is."""
    try:
        with _http(verify=context, is_near=is_address(base)) as http:
            response = http.get(f"{base}/health")
            return "" if response.is_success and "instance" in response.json() else f"{base} is not a roost server"
    except (httpx.HTTPError, ValueError) as exc:
        return f"{base}: {str(exc) or type(exc).__name__}"


def _http(*, verify: bool | ssl.SSLContext, is_near: bool, transport: httpx.BaseTransport | None = None) -> httpx.Client:
    return httpx.Client(verify=verify, trust_env=not is_near, timeout=_PATIENCE_S, transport=transport)


def _bundle_beside(authority: Path) -> Path:
    return authority.with_name(f"{authority.stem}-bundle.pem")


def _fingerprint(pem: str) -> str:
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _write(file: Path, text: str) -> None:
    """All at once: a program that begins just now must not find half of the certificates."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(0o644)
    temporary.replace(file)
