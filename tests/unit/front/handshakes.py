"""TLS handshakes without sockets: what a caller who trusts this sees of that."""

from __future__ import annotations

import ssl
from pathlib import Path


def trusting(path: Path) -> ssl.SSLContext:
    """A caller who trusts what is in this file, and nothing else. Not the clock: tests have their own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    # As Python does from 3.13 on. And X509_V_FLAG_NO_CHECK_TIME, for which it has no name.
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VerifyFlags(0x200000)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def certificate_seen(server: ssl.SSLContext, caller: ssl.SSLContext, name: str) -> bytes:
    """The certificate that the caller is shown when it dials this name, in DER. Raises SSLCertVerificationError when it does not trust it."""
    return handshake(server, caller, name).getpeercert(True) or b""


def handshake(server: ssl.SSLContext, caller: ssl.SSLContext, name: str) -> ssl.SSLObject:
    to_server, to_caller = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = caller.wrap_bio(to_caller, to_server, server_hostname=name)
    other = server.wrap_bio(to_server, to_caller, server_side=True)
    waiting = [one, other]
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    return one
