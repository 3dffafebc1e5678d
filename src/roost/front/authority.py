"""The local certificate authority: TLS from the first start, without a public name and without asking anybody.

    ca.pem      its certificate, for callers elsewhere         ca.key   its key
    leaf.pem    this server's certificate, and the key to it, in one file: the two can never be those of different moments
    bundle.pem  ca.pem and the public certificates that this machine trusts (SSL_CERT_FILE replaces the store of those who read it)

All of it is made at first use and whenever it is due. Files are written aside and renamed, and only by who holds the lock: the two servers of a
planned restart may look at the same moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roost.core.certificates import Certificate, Keep, Make, NoCertificate, first, judge_authority, judge_leaf
from roost.front import public
from roost.front.context import server_context
from roost.kit import log

_LOOK_S: Final = 600.0
"""Between two looks at files that should not change by themselves."""
_AFTER_FAILURE_S: Final = 60.0


class Unusable(Exception):
    """The authority on the disk cannot sign; says why."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    pem: bytes
    certificate: Certificate


class Authority:
    """The authority of this state folder, and this server's certificate by it. `look` blocks for a moment when something must be made."""

    def __init__(
        self, folder: Path, names: tuple[str, ...], machine: str, now_ms: Callable[[], int], environ: Mapping[str, str] = os.environ
    ) -> None:
        """`names` as `core.certificates.names` answers them; `machine` tells people whose authority this is."""
        self.ca_path = folder / "ca.pem"
        self.bundle_path = folder / "bundle.pem"
        self.problem = ""
        """Why the last look failed; "" if it did not."""
        self._folder = folder
        self._names = names
        self._machine = machine
        self._now_ms = now_ms
        self._environ = environ
        self._leaf: _Leaf | None = None
        self._context: ssl.SSLContext | None = None

    def open(self) -> None:
        """The first look. Raises OSError when there is neither a certificate nor a way to make one."""
        self._look()

    def context(self) -> ssl.SSLContext:
        """That of new connections."""
        assert self._context is not None, "opened"
        return self._context

    @property
    def certificate(self) -> Certificate:
        assert self._leaf is not None, "opened"
        return self._leaf.certificate

    @property
    def ca(self) -> str:
        """The authority's certificate in PEM."""
        return self.ca_path.read_text(encoding="ascii")

    def look(self) -> float:
        """Make what is due; the seconds until it should be asked again. What fails is said once and leaves all as it is."""
        try:
            due_s = self._look()
        except (OSError, Unusable) as error:
            if self.problem != str(error):
                self.problem = str(error)
                log.error("tls.not_renewed", reason=self.problem)
            return _AFTER_FAILURE_S
        self.problem = ""
        return due_s

    def _look(self) -> float:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone():
            self._see_to_authority()
            leaf, next_ms = self._see_to_leaf()
            if self._leaf is None or leaf.pem != self._leaf.pem:
                self._context = server_context(self._leaf_path)
                self._leaf = leaf
            self._see_to_bundle()
        return min(_LOOK_S, max(1.0, (next_ms - self._now_ms()) / 1000))

    def _see_to_authority(self) -> None:
        pem = _read(self.ca_path)
        verdict = judge_authority(_certificate(pem), self._now_ms())
        if not isinstance(verdict, Make) and not self._key_path.exists():
            verdict = Make("its key is missing")
        if isinstance(verdict, Make):
            self._make_authority(verdict.reason if pem else "")

    def _make_authority(self, replaced: str) -> None:
        from roost.front import issuing

        if replaced:
            log.warning("tls.authority_replaced", reason=replaced, hint="Whoever trusted the old one must be given the new ca.pem.")
        made = issuing.authority(self._machine, self._now_ms())
        # In this order: what is left by a crash in between is made again, and nothing signed by another authority stays.
        self._leaf_path.unlink(missing_ok=True)
        self.ca_path.unlink(missing_ok=True)
        self._put(self._key_path, made.key, 0o600)
        self._put(self.ca_path, made.certificate, 0o644)

    def _see_to_leaf(self) -> tuple[_Leaf, int]:
        """The certificate, and when another one will be due."""
        verdict, leaf = self._judged(_read(self._leaf_path))
        if isinstance(verdict, Make):
            reason = verdict.reason
            try:
                pem = self._make_leaf()
            except Unusable as error:
                self._make_authority(str(error))
                pem = self._make_leaf()
            log.info("tls.certificate_made", reason=reason, names=len(self._names))
            verdict, leaf = self._judged(pem)
        if leaf is None or isinstance(verdict, Make):
            raise Unusable(f"the certificate that was just made is of no use: {verdict.reason if isinstance(verdict, Make) else ''}")
        return leaf, verdict.until_ms

    def _judged(self, pem: bytes) -> tuple[Keep | Make, _Leaf | None]:
        certificate = _certificate(pem) if _loads(self._leaf_path) else None
        by = first(self.ca)
        return judge_leaf(certificate, by, self._names, self._now_ms()), _Leaf(pem, certificate) if certificate is not None else None

    def _make_leaf(self) -> bytes:
        from roost.front import issuing

        try:
            by = issuing.Made(self.ca_path.read_bytes(), self._key_path.read_bytes())
            made = issuing.leaf(by, self._names, self._now_ms())
        except ValueError as error:
            raise Unusable(f"the authority's key in {self._key_path} cannot be used: {error}") from error
        pem = made.certificate + made.key
        self._put(self._leaf_path, pem, 0o600)
        return pem

    def _see_to_bundle(self) -> None:
        known, own = public.certificates(self._environ, self.bundle_path).rstrip(), self.ca.strip()
        bundle = known if own in known else f"{known}\n\n# {self._machine}: Roost's local authority\n{own}"
        text = f"{bundle}\n".encode()
        if _read(self.bundle_path) != text:
            self._put(self.bundle_path, text, 0o644)

    @property
    def _key_path(self) -> Path:
        return self._folder / "ca.key"

    @property
    def _leaf_path(self) -> Path:
        return self._folder / "leaf.pem"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process of this state folder makes anything meanwhile."""
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _put(self, path: Path, data: bytes, mode: int) -> None:
        """Replace a file as a whole; a key is never readable by others, not even for a moment."""
        aside = path.with_name(f"{path.name}.new")
        aside.unlink(missing_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        aside.replace(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _certificate(pem: bytes) -> Certificate | None:
    try:
        return first(pem.decode("ascii", "replace"))
    except NoCertificate:
        return None


def _loads(path: Path) -> bool:
    """Whether a TLS server could use it: all there, and the key belongs to the certificate."""
    try:
        server_context(path)
    except (OSError, ValueError):
        return False
    return True
