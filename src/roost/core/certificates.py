"""What a certificate says, for which names one is made, and when it is time for the next: pure, for `front`.

A certificate is read here, in DER, because the standard library shows only those that have been verified, and the package that makes ours is
8 MB of memory which a server that has its certificate can do without.
"""

from __future__ import annotations

import binascii
import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Final

LEAF_DAYS: Final = 90
AUTHORITY_DAYS: Final = 3650
LOCAL: Final = ("localhost", "127.0.0.1", "::1")
"""Names that every server has."""
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----", re.ASCII)
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NAMES_EXTENSION: Final = b"\x06\x03\x55\x1d\x11"
"""The object identifier of subjectAltName."""
_INTEGER, _OCTETS, _UTC_TIME, _SEQUENCE, _VERSION, _EXTENSIONS = 0x02, 0x04, 0x17, 0x30, 0xA0, 0xA3
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87


class NoCertificate(ValueError):
    """These bytes are no certificate that one could read; says why."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What matters of a certificate."""

    names: tuple[str, ...]
    from_ms: int
    until_ms: int
    subject: bytes = field(default=b"", repr=False)
    """Whose it is, and by whom, as it stands there."""
    issuer: bytes = field(default=b"", repr=False)


def first(pem: str) -> Certificate:
    """The first certificate of a PEM file, which is the server's own; others are its chain. Raises NoCertificate."""
    found = _PEM.search(pem)
    if found is None:
        raise NoCertificate("there is no certificate in PEM form in it")
    try:
        return read(binascii.a2b_base64(found[1]))
    except binascii.Error as error:
        raise NoCertificate("its base64 is damaged") from error


def read(der: bytes) -> Certificate:
    """A certificate in DER (RFC 5280 §4.1). Raises NoCertificate."""
    try:
        (signed,) = _parts(_only(der, _SEQUENCE))[:1]
        fields = _parts(_of(signed, _SEQUENCE))
        if fields[0][0] == _VERSION:
            fields = fields[1:]
        # serial number, signature algorithm, issuer, validity, subject, key, ...
        begin, end = (_time(*part) for part in _parts(_of(fields[3], _SEQUENCE)))
        extensions = next((part[1] for part in fields[5:] if part[0] == _EXTENSIONS), b"")
        return Certificate(tuple(_names(extensions)), begin, end, subject=fields[4][1], issuer=fields[2][1])
    except (IndexError, ValueError) as error:
        raise NoCertificate("it is no certificate") from error


def _parts(data: bytes) -> list[tuple[int, bytes]]:
    """What stands in a row: tags and contents."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, at = int.from_bytes(data[at : at + count], "big"), at + count
        if at + size > len(data):
            raise ValueError("cut off")
        found.append((tag, data[at : at + size]))
        at += size
    return found


def _of(part: tuple[int, bytes], tag: int) -> bytes:
    if part[0] != tag:
        raise ValueError(f"{part[0]:#x} in place of {tag:#x}")
    return part[1]


def _only(data: bytes, tag: int) -> bytes:
    (part,) = _parts(data)
    return _of(part, tag)


def _time(tag: int, value: bytes) -> int:
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        # RFC 5280 §4.1.2.5.1: two digits of the year, from 1950 to 2049.
        text = ("19" if text[:2] >= "50" else "20") + text
    return int(datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc).timestamp() * 1000)


def _names(extensions: bytes) -> Iterator[str]:
    if not extensions:
        return
    for part in _parts(_only(extensions, _SEQUENCE)):
        body = _of(part, _SEQUENCE)
        if body.startswith(_NAMES_EXTENSION):
            # The value is last; whether it is critical may stand before it.
            for tag, value in _parts(_only(_of(_parts(body)[-1], _OCTETS), _SEQUENCE)):
                if tag == _DNS_NAME:
                    yield value.decode("ascii")
                elif tag == _IP_ADDRESS:
                    yield str(ipaddress.ip_address(value))


# --- names ------------------------------------------------------------------------------------------------------------------


def name(text: str) -> str | None:
    """A host's name or address as it can stand in a certificate, `[::1]` without its brackets; None for what is neither."""
    text = text.strip().rstrip(".").lower()
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        # Without a zone, which has a meaning on one machine only.
        return str(ipaddress.ip_address(bare.partition("%")[0]))
    except ValueError:
        pass
    try:
        ascii_name = text.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None
    labels = ascii_name.split(".")
    if len(labels) > 2 and labels[0] == "*":
        labels = labels[1:]
    return ascii_name if len(ascii_name) <= 253 and all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit() else None


def names(wanted: Iterable[str]) -> tuple[str, ...]:
    """The names of a certificate: the local ones, then what is wanted and can be one, each once."""
    return tuple(dict.fromkeys((*LOCAL, *(found for text in wanted if (found := name(text)) is not None))))


# --- when -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Keep:
    """The certificate is good until then, when it should be looked at again."""

    until_ms: int


@dataclass(frozen=True, slots=True)
class Make:
    """A new one is due."""

    reason: str


def judge_leaf(leaf: Certificate | None, by: Certificate, wanted: tuple[str, ...], now_ms: int) -> Keep | Make:
    """Whether the certificate of this server by the local authority, `by`, goes on."""
    if leaf is None:
        return Make("there is none")
    if leaf.issuer != by.subject:
        return Make("it is by another authority")
    missing = [one for one in wanted if one not in leaf.names]
    if missing:
        return Make(f"it lacks {', '.join(missing[:3])}")
    if set(leaf.names) - set(wanted):
        # It would go on speaking for them.
        return Make("it has names that are no longer wanted")
    due_ms = leaf.from_ms + (leaf.until_ms - leaf.from_ms) * 2 // 3
    if now_ms >= due_ms:
        return Make("two thirds of its life are over")
    if now_ms < leaf.from_ms:
        return Make("it begins in the future: this machine's clock was set back")
    return Keep(due_ms)


def judge_authority(authority: Certificate | None, now_ms: int) -> Keep | Make:
    """Whether the local authority itself goes on. A new one costs everybody who trusts the old one, so it lives as long as it can sign."""
    if authority is None:
        return Make("there is none")
    due_ms = authority.until_ms - LEAF_DAYS * 86_400_000
    return Make("it ends before its next certificate would") if now_ms >= due_ms else Keep(due_ms)
