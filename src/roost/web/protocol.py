"""uvicorn's HTTP protocol with what it lacks: limits on time and size of the request's head, requests that can be read in one way only,
word when the caller goes, a short way.

uvicorn waits for a head for ever, takes one of any size, and takes more than HTTP allows (faults.md S-23 to S-25, F-42). And it makes an
ASGI scope and a task of every request, which costs more than passing a usual one on: `web.shortcut` says which requests need neither.
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
from roost.web import framing
from roost.web.answering import BODYLESS, answer_head
from roost.web.forwarded import Trusted, dialled
from roost.web.guests import Guests
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
_LENGTHS: Final = (b"content-length", b"transfer-encoding")
_MAX_AHEAD: Final = 32
"""Requests that may wait behind one another on a connection: a few bytes each for who sends them, a few kilobytes for us."""


class _Stop(Exception):
    """Raised into the parser: nothing more is to be read."""


class Caller:
    """The caller's connection as the gateway sees it for one request: `on_lost` is called once when it breaks."""

    __slots__ = ("_transport", "cycle", "lost", "on_lost", "through_asgi")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.cycle: RequestResponseCycle | None = None
        """uvicorn's state of this request."""
        self.lost = False
        self.on_lost: Callable[[], object] | None = None
        self.through_asgi = False
        """Somebody changes the answer on its way: no part of it may go past `send`."""

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
        if self.through_asgi or cycle.scope["method"] == "HEAD":
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


class _Cycle(RequestResponseCycle):
    """uvicorn's answering of one request, without the bodies that no reader expects."""

    _bodyless = False

    def send(self, message: Any) -> Any:
        if self._bodyless:
            message = {**message, "body": b""}
        elif not self.response_started and message.get("status") in BODYLESS:
            # Its reader takes the next byte for the beginning of another answer, whatever a length says.
            self._bodyless = True
            message = {**message, "headers": [field for field in message.get("headers", ()) if field[0] not in _LENGTHS]}
        return super().send(message)


class LimitedProtocol(HttpToolsProtocol):
    """One HTTP connection. Puts a `Caller` into each request's scope under "roost.caller".

    A request is at any time in one place: `_held` until its body is here, `_short` while it is on the short way, else in uvicorn's `cycle`.
    """

    def __init__(
        self,
        *args: Any,
        timeouts: Timeouts | None = None,
        shorts: Shorts | None = None,
        proxies: Trusted | None = None,
        guests: Guests | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._timeouts = timeouts or Timeouts(self.loop)
        self._shorts = shorts
        self._proxies = proxies or Trusted()
        self._guests = guests or Guests()
        self._from_proxy = False
        """The other end is a proxy whose word about a request counts."""
        self._head_timer: Timeout | None = None
        self._head_size = 0
        self._telling: Headers = []
        """The fields of the head that say where it leads and how long its body is."""
        self._in_head = False
        self._between = True
        """The parser is at the beginning of a request."""
        self._seen = b""
        """What is being parsed, if it began with a request."""
        self._asks_upgrade = False
        """The head asks for another protocol, and the parser believes it."""
        self._resuming = False
        """A parser is told of such a head what the body needs."""
        self._rejected = False
        """Nothing more is read on this connection."""
        self._last_words = b""
        """An error of what came after the request being answered, to be written when that is done."""
        self._callers: list[Caller] = []
        self._held: Request | None = None
        self._held_body = b""
        self._held_timer: Timeout | None = None
        self._short: ShortCall | None = None
        self._short_request: Request | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._from_proxy = self.client is not None and self._proxies.has(self.client[0])
        if self._from_proxy and self._shorts is not None:
            self._shorts = self._shorts.of_proxies()
        if self.client is not None:
            # Whether there is room for it was judged when it was accepted.
            self._guests.come(self.client[0])
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        self._let_go()
        super().connection_lost(exc)
        if self.client is not None:
            self._guests.go(self.client[0])
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
        self._read(data)
        self._seen = b""
        if self._in_head and self._head_timer is None:
            self._wait_for_head()
        if self._held is not None and self._held_timer is None:
            self._wait_for_body(self._held)

    def _read(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._resume(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._reject("bad_request", "the request is not valid HTTP", in_body=not self._between and not self._in_head)

    def _resume(self, rest: bytes) -> None:
        """Go on behind a head that asks for another protocol, which nobody here speaks: then it is a request as any other.

        The parser takes what follows for that protocol and would find the next request in this one's body (Java's client asks for HTTP/2 with
        each of its first requests). So another parser is told how long the body is.
        """
        fresh: Any = httptools.HttpRequestParser(self)
        fresh.set_dangerous_leniencies(lenient_data_after_close=True)
        self._resuming = True
        fresh.feed_data(b"POST / HTTP/1.1\r\n" + framing.lines(self._telling))
        self.parser = fresh
        self._read(b"\r\n" + rest)

    # the parser's callbacks

    def on_message_begin(self) -> None:
        if self._rejected:
            raise _Stop
        if self._resuming:
            return
        if self._short is not None:
            # Answers leave in the order of their requests, and uvicorn's queue knows about its own only.
            self._short.hand_over()
        self.url = b""
        self.headers = []
        self._telling = []
        self.expect_100_continue = False
        self._head_size = 0
        self._in_head = True
        self._between = False

    def on_url(self, url: bytes) -> None:
        if self._resuming:
            return
        self.url += url
        self._head_size += len(url)
        if self._head_size > MAX_URL:
            self._too_large("the address is longer than 8 KB")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            name = name.lower()
            if name in framing.TELLING:
                value = value.rstrip(b" \t")
                self._telling.append((name, value))
            elif name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))
        elif self._resuming:
            return
        # What comes behind the body is counted and forgotten: among the fields of the head it would get past all who looked at those.
        self._head_size += len(name) + len(value) + 4
        if self._head_size > MAX_HEAD:
            self._too_large("the request's headers are longer than 16 KB")

    def on_headers_complete(self) -> None:
        if self._resuming:
            self._resuming = False
            return
        self._head_arrived()
        if self._rejected or self.transport.is_closing():
            raise _Stop
        parser: Any = self.parser
        version = parser.get_http_version()
        method = parser.get_method().decode("ascii")
        fault = framing.fault(method, version, self.url, self._telling)
        if fault is not None:
            self._reject("bad_request", f"the request cannot be read safely: {fault}")
            raise _Stop
        url = httptools.parse_url(self.url)
        # Here, where it is answered as bad HTTP: later it would fail in who starts the request.
        url.path.decode("ascii")
        keep_alive = version != "1.0" and parser.should_keep_alive()
        request = Request(method, url.path, url.query or b"", self.headers, self.scheme or "http", version, keep_alive)
        before = dialled(self.headers, request.scheme, self._proxies, from_proxy=self._from_proxy)
        if before is not None:
            request.scheme, request.headers = before.scheme, before.headers
            request.via, request.root_path = before.via, before.root_path
        busy = self.cycle is not None and not self.cycle.response_complete
        self._asks_upgrade = parser.should_upgrade()
        self._in_head = False
        if self._shorts is None or busy or not keep_alive or self.expect_100_continue or self._asks_upgrade:
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
        if self._asks_upgrade:
            # It is not: `_resume` comes next.
            self._asks_upgrade = False
            return
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
            "client": (request.client(self.client[0]), self.client[1]) if self.client else None,
            "scheme": request.scheme,
            "root_path": request.root_path,
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
        self.cycle = caller.cycle = _Cycle(
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
        elif len(self.pipeline) < _MAX_AHEAD:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, app))
        else:
            self.cycle = before
            self._reject("bad_request", f"more than {_MAX_AHEAD} requests were sent before the answer to the first")
            raise _Stop

    def on_response_complete(self) -> None:
        if self._rejected and not self.pipeline and not self.transport.is_closing():
            self.transport.write(self._last_words)
            self.transport.close()
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

    def _too_large(self, detail: str) -> None:
        self._reject("headers_too_large", detail, in_body=not self._in_head)
        raise _Stop

    def _reject(self, code: str, detail: str, *, in_body: bool = False) -> None:
        """Answer what no application sees, in its turn, and hang up. Nothing more is read. `in_body`: the head was all right."""
        if self._rejected:
            return
        self._rejected = True
        self._head_arrived()
        held, _ = self._let_go()
        if self._short is not None:
            self._short.hand_over()
        if self.transport.is_closing():
            return
        answer = _error(RoostError(code, detail))
        cycle = self.cycle
        begun = in_body and held is None
        if cycle is None or (cycle.response_complete and not begun):
            self.transport.write(answer)
            self.transport.close()
        elif not begun or self.pipeline:
            if begun:
                self.pipeline.popleft()
            # Those before it are answered first: this would be taken for the answer to one of them.
            self._last_words = answer
        else:
            # Of a request that somebody is at work on, and that will never be whole.
            if not cycle.response_started:
                self.transport.write(answer)
            cycle.disconnected = True
            cycle.message_event.set()
            self.transport.close()


def _error(error: RoostError) -> bytes:
    body = json.dumps(error.body()).encode()
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\ncontent-type: application/json\r\nx-fal-error-type: {error.code}\r\n"
        f"x-fal-request-id: {ids.request_id()}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
