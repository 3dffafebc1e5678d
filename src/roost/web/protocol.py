"""uvicorn's HTTP protocol with what it lacks: limits on time and size of the request's head, word when the caller goes, a short way.

uvicorn waits for a head for ever and takes one of any size (faults.md S-24, S-25, F-42). And it makes an ASGI scope and a task of every
request, which costs more than passing a usual one on: `web.shortcut` says which requests need neither.
"""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from roost.kit.timeouts import Timeout, Timeouts
from roost.web.answering import answer_head
from roost.web.shortcut import ANSWERED, MAX_BODY, Request, ShortCall, Shorts
from roost.wire import ids
from roost.wire.errors import RoostError
from roost.wire.frames import Headers

HEAD_WAIT_S = 20.0
MAX_URL = 8 * 1024
MAX_HEAD = 16 * 1024
_BODY_WAIT_S = 1.0
"""How long a request's body may take for the short way; after it the application reads it, with its own limits for slow callers."""
_HEAD_END: Final = b"\r\n\r\n"


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
        if cycle.scope["method"] == "HEAD":
            return False
        head = answer_head(status, (*cycle.default_headers, *headers), len(body))
        if head is None:
            return False
        cycle.response_started = cycle.response_complete = True
        self._transport.write(head + body)
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
    """One HTTP connection. Puts a `Caller` into each request's scope under "roost.caller".

    A request is at any time in one place: `_held` until its body is here, `_short` while it is on the short way, else in uvicorn's `cycle`.
    """

    def __init__(self, *args: Any, timeouts: Timeouts | None = None, shorts: Shorts | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timeouts = timeouts or Timeouts(self.loop)
        self._shorts = shorts
        self._head_timer: Timeout | None = None
        self._head_size = 0
        self._in_head = False
        self._between = True
        """The parser is at the beginning of a request."""
        self._seen = b""
        """What is being parsed, if it began with a request."""
        self._rejected = False
        self._callers: list[Caller] = []
        self._held: Request | None = None
        self._held_body = b""
        self._held_timer: Timeout | None = None
        self._short: ShortCall | None = None
        self._short_request: Request | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        self._let_go()
        super().connection_lost(exc)
        short = self._end_short()
        if short is not None:
            short.caller_lost()
        callers, self._callers = self._callers, []
        for caller in callers:
            caller.gone()

    def data_received(self, data: bytes) -> None:
        if self._rejected:
            return
        if self._shorts is not None and self._between and self._short is None and (self.cycle is None or self.cycle.response_complete):
            if self._take_known(data, self._shorts):
                return
            self._seen = data
        super().data_received(data)
        self._seen = b""
        if self._in_head and self._head_timer is None:
            self._wait_for_head()
        if self._held is not None and self._held_timer is None:
            self._wait_for_body(self._held)

    # the parser's callbacks

    def on_message_begin(self) -> None:
        if self._short is not None:
            # Answers leave in the order of their requests, and uvicorn's queue knows about its own only.
            self._short.hand_over()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_size = 0
        self._in_head = True
        self._between = False

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._head_size += len(url)
        if self._head_size > MAX_URL:
            self._too_large("the address is longer than 8 KB")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))
        self._head_size += len(name) + len(value) + 4
        if self._head_size > MAX_HEAD:
            self._too_large("the request's headers are longer than 16 KB")

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_arrived()
        if self._rejected or self.transport.is_closing():
            return
        parser: Any = self.parser
        version = parser.get_http_version()
        url = httptools.parse_url(self.url)
        # Here, where it is answered as bad HTTP: later it would fail in who starts the request.
        url.path.decode("ascii")
        keep_alive = version != "1.0" and parser.should_keep_alive()
        request = Request(
            parser.get_method().decode("ascii"), url.path, url.query or b"", self.headers, self.scheme or "http", version, keep_alive
        )
        busy = self.cycle is not None and not self.cycle.response_complete
        if self._shorts is None or busy or not keep_alive or self.expect_100_continue or parser.should_upgrade():
            self._start(request)
        else:
            self._held, self._held_body = request, b""

    def on_body(self, body: bytes) -> None:
        if self._rejected:
            return
        if self._held is None:
            super().on_body(body)
            return
        self._held_body = self._held_body + body if self._held_body else body
        if len(self._held_body) > MAX_BODY:
            self._start_held()

    def on_message_complete(self) -> None:
        self._between = True
        if self._rejected:
            return
        if self._held is None:
            super().on_message_complete()
            return
        held, body = self._let_go()
        if held is not None and not (self._shorts is not None and self._take(held, body, self._shorts)):
            self._start(held)
            self._have(body)

    # the short way

    def _take_known(self, data: bytes, shorts: Shorts) -> bool:
        """Take a request whose head is, byte for byte, one that was parsed before: parsing it again would say the same."""
        start = data.find(_HEAD_END) + 4
        known = shorts.known.get(data[:start])
        if known is None or len(data) - start != known.size or not shorts.shortcut.holds(known.plan):
            return False
        self._unset_keepalive_if_required()
        self._head_arrived()
        body = data[start:]
        if not self._begin(known.plan, known.request, body, shorts):
            self._start(known.request)
            self._have(body)
        return True

    def _take(self, request: Request, body: bytes, shorts: Shorts) -> bool:
        """Take a request that was parsed, if it is a usual one."""
        plan = shorts.shortcut.plan(request)
        if plan is None:
            return False
        shorts.remember(request, plan, self._seen, body)
        return self._begin(plan, request, body, shorts)

    def _begin(self, plan: object, request: Request, body: bytes, shorts: Shorts) -> bool:
        call = shorts.shortcut.begin(plan, self, body)
        if call is None:
            return False
        if call is not ANSWERED:
            self._short, self._short_request = call, request
            shorts.under_way.add(self)
        return True

    def answer_short(self, start: bytes, rest: bytes) -> bool:
        """Write the answer of the request on the short way; the fields of every answer go between. False: it must be handed over."""
        shorts = self._shorts
        if shorts is None or self.flow.write_paused or self.transport.is_closing():
            return False
        self._short = self._short_request = None
        shorts.under_way.discard(self)
        self.transport.write(b"%b%b%b" % (start, shorts.lines(self.server_state.default_headers), rest))
        self.server_state.total_requests += 1
        self.timeout_keep_alive_task = self._timeouts.start(self.timeout_keep_alive, self.timeout_keep_alive_handler)  # type: ignore[assignment]
        return True

    def hand_over_short(self, begun: object) -> None:
        """The request on the short way turns out to be unusual: the application goes on with it, and finds `begun` in its scope."""
        request = self._short_request
        if self._end_short() is not None and request is not None:
            self._start(request, begun)
            self._have(b"")

    def _end_short(self) -> ShortCall | None:
        short, self._short, self._short_request = self._short, None, None
        if self._shorts is not None:
            self._shorts.under_way.discard(self)
        return short

    def _wait_for_body(self, request: Request) -> None:
        """Many clients send the body on its own, right after the head."""
        if request.declared_size() <= MAX_BODY:
            self._held_timer = self._timeouts.start(_BODY_WAIT_S, self._start_held)
        else:
            self._start_held()

    def _let_go(self) -> tuple[Request | None, bytes]:
        """Hold nothing any more; what was held."""
        if self._held_timer is not None:
            self._held_timer.cancel()
            self._held_timer = None
        held, self._held, self._held_body = (self._held, self._held_body), None, b""
        return held

    # uvicorn's way

    def _start_held(self) -> None:
        request, body = self._let_go()
        if request is not None:
            self._start(request)
            if body:
                super().on_body(body)

    def _have(self, body: bytes) -> None:
        """All of the request that `_start` has given away is here."""
        self.cycle.body += body
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def _start(self, request: Request, begun: object = None) -> None:
        """Give the request to the application, in a task of its own: uvicorn's `on_headers_complete`."""
        path = request.path.decode("ascii")
        caller = Caller(self.transport)
        # Only the newest few can still be at work: pipelined requests queue behind one another.
        self._callers = [c for c in self._callers if c.on_lost is not None][-16:]
        self._callers.append(caller)
        scope: Any = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": request.http_version,
            "server": self.server,
            "client": self.client,
            "scheme": request.scheme,
            "root_path": "",
            "headers": list(request.headers),
            "state": self.app_state.copy(),
            "method": request.method,
            "path": urllib.parse.unquote(path) if "%" in path else path,
            "raw_path": request.path,
            "query_string": request.query,
            "roost.caller": caller,
        }
        if begun is not None:
            scope["roost.begun"] = begun
        app: Any = self.app
        before = self.cycle
        self.scope = scope
        self.cycle = caller.cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=begun is None and self.expect_100_continue,
            keep_alive=request.keep_alive,
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, app))

    def on_response_complete(self) -> None:
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        # As uvicorn does it, but with a timer that costs less than the rest of this method.
        self.server_state.total_requests += 1
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.timeout_keep_alive_task = self._timeouts.start(self.timeout_keep_alive, self.timeout_keep_alive_handler)  # type: ignore[assignment]

    def shutdown(self) -> None:
        """Close the connection if it is idle, else after its answer."""
        if self._short is not None:
            self._short.hand_over()
        self._start_held()
        super().shutdown()

    # limits

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
