"""Lines of `roost doctor`: what is in order here, and what to do about what is not."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from roost.api.parts import Certificates

SOON_MS: Final = 14 * 86_400_000
"""What ends within this time should have been renewed."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `roost doctor`. What is not `ok` has a `hint`."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def certificate_check(tls: Certificates | None, now_ms: int) -> Check:
    """The line of `roost doctor` about TLS."""
    if tls is None:
        return Check("certificate", True, "TLS is off")
    until = dt.datetime.fromtimestamp(tls.until_ms / 1000, dt.timezone.utc)
    detail = f"{'of the local authority' if tls.own else 'of the operator'}, until {until:%Y-%m-%d}, for {', '.join(tls.names[:6])}"
    if len(tls.names) > 6:
        detail += f" and {len(tls.names) - 6} more"
    if tls.problem:
        return Check("certificate", False, tls.problem, "The certificate that was good last is in use until this is mended.")
    if tls.until_ms - now_ms < SOON_MS:
        word = "has ended" if tls.until_ms <= now_ms else "ends soon"
        hint = "The server's own log says more." if tls.own else "Renew the files of tls_certificate and tls_key; no restart is needed."
        return Check("certificate", False, f"it {word}: {detail}", hint)
    return Check("certificate", True, detail)
