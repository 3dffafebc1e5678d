"""Identifiers that travel between processes. All are unguessable; none carries meaning except its prefix."""

from __future__ import annotations

import secrets
import uuid


def request_id() -> str:
    """A request id: a UUID, as callers of the public protocol expect."""
    return str(uuid.uuid4())


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
