"""One call of an app's endpoint, whatever it answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from roost.client.config import Target
from roost.client.lighthttp import httpx
from roost.client.trust import trust
from roost.control.api import REMOTE_CONNECT_S
from roost.control.errors import ControlError, Unreachable
from roost.control.probe import LOCAL_CONNECT_S, nobody_there


@dataclass(frozen=True, slots=True)
class Call:
    """What to send. `timeout_s` is how long to wait for the answer to begin or go on; None: as long as it takes."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    content: bytes
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `chunks` yields the body once, as it arrives."""

    status: int
    reason: str
    url: str
    headers: httpx.Headers
    chunks: Iterator[bytes]

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip()

    @property
    def is_json(self) -> bool:
        return self.content_type == "application/json" or self.content_type.endswith("+json")

    @property
    def is_text(self) -> bool:
        return self.is_json or self.content_type.startswith("text/")


@contextmanager
def answer(call: Call, target: Target, *, transport: httpx.BaseTransport | None = None) -> Iterator[Answer]:
    """Make the call and hold its answer open. Leaving early hangs up, which cancels the call in the runner."""
    connect = LOCAL_CONNECT_S if target.is_local else REMOTE_CONNECT_S
    timeout = httpx.Timeout(call.timeout_s, connect=connect, pool=connect)
    with httpx.Client(timeout=timeout, **trust(target), transport=transport) as http:
        try:
            with http.stream(call.method, call.url, headers=call.headers, content=call.content) as response:
                yield Answer(response.status_code, response.reason_phrase, call.url, response.headers, response.iter_bytes())
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            raise nobody_there(target) from exc
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
            raise ControlError(f"{call.url!r} cannot be called: {exc}") from exc
        except httpx.TimeoutException as exc:
            raise ControlError(
                f"No answer from {call.url} within {call.timeout_s:g} s.", hint="The call is cancelled. --timeout waits longer."
            ) from exc
        except httpx.TransportError as exc:
            raise Unreachable(
                f"The connection to {target.host} broke: {exc}", hint="The call may have run; it is not repeated by itself."
            ) from exc
