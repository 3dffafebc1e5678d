"""What an app's response means for the runner that gave it, as its status and header fields say."""

from __future__ import annotations

from roost.core import fate
from roost.web import headers as fields
from roost.wire.frames import Headers, ResponseHead


def of_response(head: ResponseHead) -> fate.Fate:
    """The runner's fate after this response (`core.fate.after_response` decides)."""
    return fate.after_response(head.status, _text(head.headers, b"x-fal-stop-runner"), _text(head.headers, b"x-fal-runner-health-check"))


def _text(headers: Headers, name: bytes) -> str | None:
    value = fields.find(headers, name)
    return value.decode("latin-1") if value is not None else None
