"""A certificate that the operator brings: PEM files that somebody else renews, looked at again when they change."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from roost.core.certificates import Certificate, NoCertificate, first
from roost.front.context import server_context
from roost.kit import log
from roost.wire.errors import RoostError

_LOOK_S: Final = 20.0

Stamp = tuple[tuple[int, int, int], ...]
"""What changes with the files: times, sizes, inodes."""


class Given:
    """`tls_certificate` and `tls_key`. A new file that cannot be used leaves the old one in use."""

    def __init__(self, chain: Path, key: Path | None, adapt: Callable[[ssl.SSLContext], None] = lambda context: None) -> None:
        """`key` None: it is in the same file. `adapt` is given each new context. Raises RoostError `bad_request` for files of no use."""
        self._chain = chain
        self._key = key
        self._adapt = adapt
        self._stamp = self._changes()
        self.problem = ""
        """Why the files as they are now are not in use; "" if they are."""
        try:
            self._context, self.certificate = self._load()
        except _NoUse as error:
            raise RoostError("bad_request", str(error), hint="Mend the files, or the settings tls_certificate and tls_key.") from error

    def context(self) -> ssl.SSLContext:
        """That of new connections."""
        return self._context

    def look(self) -> float:
        """Use the files if they have changed; the seconds until it should be asked again."""
        stamp = self._changes()
        if stamp != self._stamp:
            # Taken before the files are read: who changes them meanwhile changes it again.
            self._stamp = stamp
            try:
                self._context, self.certificate = self._load()
            except _NoUse as error:
                self.problem = f"{error}; the one of before is in use"
                log.error("tls.not_renewed", reason=self.problem)
            else:
                self.problem = ""
                log.info("tls.certificate_renewed", file=str(self._chain))
        return _LOOK_S

    def _load(self) -> tuple[ssl.SSLContext, Certificate]:
        files = f"tls_certificate {self._chain}" + (f" with tls_key {self._key}" if self._key is not None else "")
        try:
            context = server_context(self._chain, self._key)
            certificate = first(self._chain.read_text(encoding="ascii", errors="replace"))
        except ssl.SSLError as error:
            raise _NoUse(f"{files} cannot be used: {_why(error)}") from error
        except (OSError, NoCertificate, ValueError) as error:
            raise _NoUse(f"{files} cannot be used: {error}") from error
        self._adapt(context)
        return context, certificate

    def _changes(self) -> Stamp:
        return tuple(_stamp(path) for path in (self._chain, self._key) if path is not None)


class _NoUse(Exception):
    """Says which files, and why."""


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_size, found.st_ino


def _why(error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not the one of the certificate"
    return "there is no certificate and key in PEM form in it" if error.reason in (None, "NO_START_LINE") else str(error.reason)
