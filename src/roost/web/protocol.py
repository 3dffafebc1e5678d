"""uvicorn's HTTP protocol with what it lacks: limits on time and size of the request's head, and word when the caller goes.

uvicorn waits for a head for ever and takes one of any size (faults.md S-24, S-25, F-42).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from roost.kit.timeouts import Timeout, Timeouts
from roost.wire import ids
from roost.wire.errors import RoostError
from roost.wire.frames import Headers

HEAD_WAIT_S = 20.0
MAX_URL = 8 * 1024
MAX_HEAD = 16 * 1024
_WITH_BODY: Final = frozenset(status for status in STATUS_LINE if status >= 200 and status not in (204, 205, 304))
_ACTED_UPON: Final = frozenset((b"content-length", b"transfer-encoding", b"connection"))
_CONTROLS: Final = bytes((*range(32), 127))


class Caller:
    """The caller's connection as the gateway sees it for one request: `on_lost` is called once when it breaks."""

    __slots__ = ("_transport", "cycle", "lost", "on_lost")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.cycle: RequestResponseCycle | None = None
        """uvicorn's state of this request."""
        self.lost = False
        self.on_lost: Callable[[], object] | None = None

    def hang_up_in(self, seconds: float) -> None:
        """End the connection after a while, however much the caller still sends: closing it at once would destroy the answer on its way."""
        asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    def whole_body(self, limit: int) -> bytes | None:
        """The request's body if all of it is here already, as it is of most: asking uvicorn for it costs much more. None: ask."""
        cycle = self.cycle
        if cycle is None or cycle.more_body or cycle.waiting_for_100_continue or cycle.disconnected or len(cycle.body) > limit:
            return None
        # A large body stops the reading, and who does not read does not notice that the caller hangs up.
        cycle.flow.resume_reading()
        return bytes(cycle.body)

    def answer(self, status: int, headers: Headers, body: bytes) -> bool:
        """Write a whole answer, if it is one of the usual sort. False: nothing was written, send it through ASGI.

        What uvicorn does with its two messages costs as much as all that it does with the request.
        """
        cycle = self.cycle
        if cycle is None or cycle.response_started or cycle.disconnected or cycle.flow.write_paused or not cycle.keep_alive:
            return False
        if status not in _WITH_BODY or cycle.scope["method"] == "HEAD":
            return False
        lines = [STATUS_LINE[status][:-2]]
        size: bytes | None = None
        for name, value in (*cycle.default_headers, *headers):
            if name == b"content-length" and size is None:
                size = value
            elif name in _ACTED_UPON:
                return False
            lines.append(name + b": " + value)
        head = b"\r\n".join(lines)
        # A control character in a field would be another field, or another answer (faults.md S-28): uvicorn refuses it.
        if size != b"%d" % len(body) or len(head) - len(head.translate(None, _CONTROLS)) != 2 * (len(lines) - 1):
            return False
        cycle.response_started = cycle.response_complete = True
        self._transport.write(b"%b\r\n\r\n%b" % (head, body))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def let_go(self) -> None:
        """Nobody has anything to do with this request any more."""
        self.on_lost = None
        # uvicorn's state holds the scope, which holds this: a circle per call would keep the garbage collector busy.
        self.cycle = None

    def gone(self) -> None:
        if not self.lost:
            self.lost = True
            if self.on_lost is not None:
                self.on_lost()


class LimitedProtocol(HttpToolsProtocol):
    """One HTTP connection. Puts a `Caller` into each request's scope under "roost.caller"."""

    def __init__(self, *args: Any, timeouts: Timeouts | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timeouts = timeouts or Timeouts(self.loop)
        self._head_timer: Timeout | None = None
        self._head_size = 0
        self._rejected = False
        self._callers: list[Caller] = []

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        super().connection_lost(exc)
        callers, self._callers = self._callers, []
        for caller in callers:
            caller.gone()

    def data_received(self, data: bytes) -> None:
        if not self._rejected:
            super().data_received(data)

    def on_body(self, body: bytes) -> None:
        if not self._rejected:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._rejected:
            super().on_message_complete()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_size = 0
        if self._head_timer is None:
            self._wait_for_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._head_size += len(url)
        if self._head_size > MAX_URL:
            self._too_large("the address is longer than 8 KB")

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._head_size += len(name) + len(value) + 4
        if self._head_size > MAX_HEAD:
            self._too_large("the request's headers are longer than 16 KB")

    def on_headers_complete(self) -> None:
        self._head_arrived()
        if self._rejected or self.transport.is_closing():
            return
        caller = Caller(self.transport)
        # Only the newest few can still be at work: pipelined requests queue behind one another.
        self._callers = [c for c in self._callers if c.on_lost is not None][-16:]
        self._callers.append(caller)
        self.scope["roost.caller"] = caller  # type: ignore[typeddict-unknown-key]  # an extension of ours
        super().on_headers_complete()
        caller.cycle = self.cycle

    def on_response_complete(self) -> None:
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        # As uvicorn does it, but with a timer that costs less than the rest of this method.
        self.server_state.total_requests += 1
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.timeout_keep_alive_task = self._timeouts.start(self.timeout_keep_alive, self.timeout_keep_alive_handler)  # type: ignore[assignment]

    def _wait_for_head(self) -> None:
        self._head_timer = self._timeouts.start(HEAD_WAIT_S, self._head_late)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is no HTTP, in our form."""
        self._reject("bad_request", "the request is not valid HTTP")

    def _too_large(self, detail: str) -> None:
        self._reject("headers_too_large", detail)

    def _reject(self, code: str, detail: str) -> None:
        """Answer for a request that no application sees, and hang up."""
        if self._rejected:
            return
        self._rejected = True
        self._head_arrived()
        error = RoostError(code, detail)
        body = json.dumps(error.body()).encode()
        head = (
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\ncontent-type: application/json\r\nx-fal-error-type: {code}\r\n"
            f"x-fal-request-id: {ids.request_id()}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
