"""Ed25519 as RFC 8032 §6 prints it, verification only: slow, and shares no code with the library that signs."""

from __future__ import annotations

import hashlib
from typing import Final

P: Final = 2**255 - 19
Q: Final = 2**252 + 27742317777372353535851937790883648493
D: Final = -121665 * pow(121666, P - 2, P) % P
ROOT: Final = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]
"""Extended homogeneous coordinates (X, Y, Z, T), x = X/Z, y = Y/Z, x * y = T/Z."""


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether this is a signature of the message by the owner of the public key."""
    a, r = _point(public), _point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= Q:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % Q
    return _equal(_times(s, BASE), _plus(r, _times(h, a)))


def _plus(p: Point, q: Point) -> Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _times(s: int, p: Point) -> Point:
    total: Point = (0, 1, 1, 0)
    while s > 0:
        if s & 1:
            total = _plus(total, p)
        p, s = _plus(p, p), s >> 1
    return total


def _equal(p: Point, q: Point) -> bool:
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


def _x(y: int, sign: int) -> int | None:
    if y >= P:
        return None
    squared = (y * y - 1) * pow(D * y * y + 1, P - 2, P)
    x = pow(squared, (P + 3) // 8, P)
    if (x * x - squared) % P != 0:
        x = x * ROOT % P
    if (x * x - squared) % P != 0 or (x == 0 and sign):
        return None
    return P - x if (x & 1) != sign else x


def _point(encoded: bytes) -> Point | None:
    if len(encoded) != 32:
        return None
    number = int.from_bytes(encoded, "little")
    y = number & ((1 << 255) - 1)
    x = _x(y, number >> 255)
    return None if x is None else (x, y, 1, x * y % P)


_BASE_Y = 4 * pow(5, P - 2, P) % P
_BASE_X = _x(_BASE_Y, 0)
assert _BASE_X is not None
BASE: Final[Point] = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % P)
