"""One call on a connection of its own, timed from the first byte sent to the last byte received."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    ms: float


def call(
    port: int, path: str, body: bytes = b"{}", headers: Mapping[str, str] | None = None, method: str = "POST", timeout_s: float = 60
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.connect()
        begin = time.perf_counter()
        connection.request(
            method, path, body=body if method != "GET" else None, headers={"content-type": "application/json", **(headers or {})}
        )
        response = connection.getresponse()
        content = response.read()
        took = (time.perf_counter() - begin) * 1000
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content, took)
    finally:
        connection.close()
