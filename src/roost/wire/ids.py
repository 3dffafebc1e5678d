"""Identifiers that travel between processes. All are unguessable; none carries meaning except its prefix."""

from __future__ import annotations

import os
import secrets
import uuid

_RESERVE = bytearray()
"""Random bytes for request ids: one call of the system for 256 of them, since each call needs one."""
if hasattr(os, "register_at_fork"):
    # A child that went on with its parent's bytes would give the same ids.
    os.register_at_fork(after_in_child=_RESERVE.clear)


def request_id() -> str:
    """A request id: a UUID (version 4), as callers of the public protocol expect."""
    if not _RESERVE:
        _RESERVE.extend(os.urandom(4096))
    text = _RESERVE[-16:].hex()
    variant = "89ab"[_RESERVE[-8] & 3]
    del _RESERVE[-16:]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def revision_id() -> str:
    """A revision id: a UUID (`application_id` in the public protocol)."""
    return str(uuid.uuid4())


def runner_id() -> str:
    """A runner id: a UUID (`FAL_JOB_ID` inside the runner)."""
    return str(uuid.uuid4())


def key_id() -> str:
    return str(uuid.uuid4())


def secret() -> str:
    """A secret of 256 random bits as hexadecimal text: key secrets and launch tokens."""
    return secrets.token_hex(32)
