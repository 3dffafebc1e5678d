"""The caller's own bucket for outputs: what a usable `x-app-fal-upload-policy` looks like (spec: toolkit.md).

It is an S3 pre-signed POST: `{"url": "https://bucket.s3.amazonaws.com/", "fields": {"key": "out/${filename}", ...}}`.
"""

from __future__ import annotations

import json
from typing import Any, cast
from urllib.parse import urlsplit

HEADER = b"x-app-fal-upload-policy"
_FILE_NAME = "${filename}"


def problem(raw: bytes) -> str | None:
    """What is wrong with the header's value, for the caller; None if it can be used."""
    try:
        policy: Any = json.loads(raw)
    except ValueError:
        return "x-app-fal-upload-policy is not valid JSON"
    if not isinstance(policy, dict):
        return "x-app-fal-upload-policy must be a JSON object with url and fields"
    url, fields = (cast("dict[str, Any]", policy).get(name) for name in ("url", "fields"))
    if not isinstance(url, str) or not _is_bucket(url):
        return "x-app-fal-upload-policy: url must be the https root of an S3 bucket (*.amazonaws.com), without port, credentials or query"
    if not isinstance(fields, dict):
        return "x-app-fal-upload-policy: fields must be a JSON object"
    key = cast("dict[str, Any]", fields).get("key")
    if not isinstance(key, str) or _FILE_NAME not in key:
        return f"x-app-fal-upload-policy: fields.key must contain {_FILE_NAME}"
    return None


def _is_bucket(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    plain = port is None and parts.username is None and parts.password is None and not parts.query and not parts.fragment
    return parts.scheme == "https" and plain and host.endswith(".amazonaws.com") and parts.path in ("", "/") and ".." not in url
