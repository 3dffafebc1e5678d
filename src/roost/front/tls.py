"""Which certificate a connection is shown: the operator's, the local authority's, or each to those who ask for its names."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from roost.core.certificates import Certificate
from roost.front.authority import Authority
from roost.front.given import Given
from roost.wire.hosts import public_role


@dataclass(frozen=True, slots=True)
class Tls:
    """What a server has; at least one of the two."""

    given: Given | None
    authority: Authority | None

    @classmethod
    def of(cls, chain: str, key: str, authority: Authority | None) -> Tls:
        """`chain` and `key` are the operator's files, "" for none. Raises RoostError for files of no use, OSError or `Unusable` if nothing can be made."""
        if authority is not None:
            authority.open()
        if not chain:
            return cls(None, authority)
        by_name = _ByName(authority) if authority is not None else None
        return cls(Given(Path(chain), Path(key) if key else None, by_name or _as_it_is), authority)

    def context(self) -> ssl.SSLContext:
        """That of new connections."""
        if self.given is not None:
            return self.given.context()
        assert self.authority is not None, "one of the two"
        return self.authority.context()

    def look(self) -> float:
        """See to what is due or new; the seconds until it should be asked again. Blocks for a moment."""
        return min(one.look() for one in (self.given, self.authority) if one is not None)

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        return tuple(one.certificate for one in (self.given, self.authority) if one is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """All names that it can show a certificate for."""
        return tuple(dict.fromkeys(name for certificate in self.certificates for name in certificate.names))

    @property
    def until_ms(self) -> int:
        """When the certificate ends that ends first."""
        return min(certificate.until_ms for certificate in self.certificates)

    @property
    def own(self) -> bool:
        """Of the local authority, which renews it by itself; else the operator's."""
        return self.given is None

    @property
    def ca(self) -> str | None:
        """The local authority's certificate in PEM, for callers elsewhere; None when there is none."""
        return self.authority.ca if self.authority is not None else None

    @property
    def bundle(self) -> Path | None:
        """Everything that programs on this machine need to trust; None when what they trust already is enough."""
        return self.authority.bundle_path if self.authority is not None else None

    @property
    def problem(self) -> str:
        return "; ".join(one.problem for one in (self.given, self.authority) if one is not None and one.problem)


@dataclass(frozen=True, slots=True)
class _ByName:
    """The names that clients have built in are the authority's to speak for; no operator has a certificate of them."""

    authority: Authority

    def __call__(self, context: ssl.SSLContext) -> None:
        context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        if name is not None and public_role(name) is not None:
            connection.context = self.authority.context()


def _as_it_is(context: ssl.SSLContext) -> None:
    pass
