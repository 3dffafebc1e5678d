"""Where runners dial in: the handshake of both kinds of connection, and the control connections.

Who may come in is decided by `admit`, which looks the runner up in the store; an unknown runner is refused and ends itself.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from roost.link.connection import CallConnection
from roost.link.directory import Directory
from roost.link.templates import TemplateLine
from roost.wire import frames
from roost.wire.frames import Attempt
from roost.wire.launch import LINK_VERSIONS, Hello, common_version

_HELLO_WAIT_S = 10.0
_ANSWERS = ("pong", "health")


@dataclass(frozen=True, slots=True)
class Admitted:
    """A runner that may come in: what the directory must know of it."""

    runner_id: str
    revision_id: str
    slots: int
    held: int = 0
    """Calls of an earlier server that are under way there."""


class Control:
    """The control connection of one runner."""

    def __init__(self, runner_id: str, transport: asyncio.Transport) -> None:
        self.runner_id = runner_id
        self._transport = transport

    def send(self, body: dict[str, Any]) -> None:
        if not self._transport.is_closing():
            self._transport.write(frames.frame(frames.CONTROL, 0, json.dumps(body).encode()))

    def close(self) -> None:
        self._transport.close()


class Listener:
    """Accepts runners on the link sockets.

    `admit(hello)` answers who it is, or a sentence why not. `on_report(runner_id, body)` gets what control connections say.
    """

    def __init__(
        self,
        directory: Directory,
        admit: Callable[[Hello], Awaitable[Admitted | str]],
        on_report: Callable[[str, dict[str, Any]], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._directory = directory
        self._admit = admit
        self._on_report = on_report
        self._now_ms = now_ms
        self._servers: list[asyncio.Server] = []
        self._controls: dict[str, Control] = {}
        self._calls: set[CallConnection] = set()
        self._questions: dict[tuple[str, int], asyncio.Future[dict[str, Any]]] = {}
        # Beyond all that a server before this one asked: an answer to it may come here.
        self._question = now_ms()
        self.admit_template: Callable[[Hello], str] = lambda hello: "this server makes no templates"
        """Why a template may not come in; "" if it may."""
        self.on_template: Callable[[str, TemplateLine], None] = lambda template_id, line: line.close()
        self.on_connect: Callable[[str], None] = lambda runner_id: None
        """A runner has dialled home with its control connection."""
        self.on_ready: Callable[[str, str], None] = lambda runner_id, revision_id: None
        """A runner takes calls from now on."""
        self.on_calls: Callable[[str, CallConnection], None] = lambda runner_id, connection: None
        """It has opened a connection for calls, and nobody was given a slot on it yet: the moment to resume what is under way there."""

        self.on_kept: Callable[[CallConnection, list[Attempt]], None] = lambda connection, attempts: None
        """It says which attempts it keeps, all together or a thousand at a time."""

    async def listen(self, sock: socket.socket) -> None:
        """Accept on an already listening socket (a duplicate of it is used, so that it can go on after `stop_accepting`)."""
        loop = asyncio.get_running_loop()
        server = await (
            loop.create_unix_server(self.newcomer, sock=sock.dup())
            if sock.family == socket.AF_UNIX
            else loop.create_server(self.newcomer, sock=sock.dup())
        )
        self._servers.append(server)

    def newcomer(self) -> asyncio.Protocol:
        """The protocol of a new connection, whatever transport it comes on."""
        return _Handshake(self)

    def stop_accepting(self) -> None:
        """Leave newcomers to the next server; connections that are there stay."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    def close(self) -> None:
        self.stop_accepting()
        for control in list(self._controls.values()):
            control.close()
        for connection in list(self._calls):
            connection.close()

    def tell(self, runner_id: str, body: dict[str, Any]) -> bool:
        """Send an order on the runner's control connection. False: it has none now."""
        control = self._controls.get(runner_id)
        if control is None:
            return False
        control.send(body)
        return True

    def tell_all(self, body: dict[str, Any]) -> None:
        for control in self._controls.values():
            control.send(body)

    async def ping(self, runner_id: str, wait_s: float) -> bool:
        """Whether the app's own loop answers in time."""
        return await self.ask(runner_id, {"op": "ping"}, wait_s) is not None

    async def ask(self, runner_id: str, order: dict[str, Any], wait_s: float) -> dict[str, Any] | None:
        """Send an order that is answered, and wait for the answer. None: none came in time, or the runner has no control connection."""
        self._question += 1
        key = (runner_id, self._question)
        if not self.tell(runner_id, {**order, "id": key[1]}):
            return None
        future = self._questions[key] = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(future, wait_s)
        except (asyncio.TimeoutError, TimeoutError):
            return None
        finally:
            self._questions.pop(key, None)

    # for the handshake

    async def judge(self, hello: Hello) -> Admitted | str:
        if not common_version(hello.versions):
            return f"this server speaks link versions {LINK_VERSIONS}, the runner {hello.versions}"
        if hello.kind == "template":
            return self.admit_template(hello) or Admitted(hello.runner_id, "", 0)
        return await self._admit(hello)

    def control_made(self, hello: Hello, transport: asyncio.Transport) -> Control:
        control = Control(hello.runner_id, transport)
        self._controls[hello.runner_id] = control
        self.on_connect(hello.runner_id)
        self._on_report(hello.runner_id, {"op": "state", "state": hello.state, "health": hello.health})
        return control

    def control_lost(self, control: Control) -> None:
        if self._controls.get(control.runner_id) is control:
            del self._controls[control.runner_id]
            self._on_report(control.runner_id, {"op": "gone"})

    def control_said(self, control: Control, body: dict[str, Any]) -> None:
        if body.get("op") in _ANSWERS:
            future = self._questions.get((control.runner_id, int(body.get("id", 0))))
            if future is not None and not future.done():
                future.set_result(body)
            return
        self._on_report(control.runner_id, body)

    def calls_made(self, admitted: Admitted, version: int) -> CallConnection:
        connection = CallConnection(admitted.runner_id, self._directory.going_away, self._calls_lost, self._calls_held, version)
        connection.on_resumed = self._calls_resumed
        connection.on_kept = self.on_kept
        self._calls.add(connection)
        return connection

    def calls_open(self, admitted: Admitted, connection: CallConnection) -> None:
        self.on_ready(admitted.runner_id, admitted.revision_id)
        self.on_calls(admitted.runner_id, connection)
        self._directory.add(admitted.runner_id, admitted.revision_id, admitted.slots, connection, self._now_ms(), admitted.held)

    def _calls_held(self, connection: CallConnection, calls: int) -> None:
        self._directory.holds(connection, calls, self._now_ms())

    def _calls_resumed(self, connection: CallConnection, holds: bool) -> None:
        if holds:
            self._directory.took_over(connection)
        else:
            self._directory.ended(connection, self._now_ms())

    def _calls_lost(self, connection: CallConnection) -> None:
        self._calls.discard(connection)
        self._directory.lost(connection)


class _Handshake(asyncio.Protocol):
    """The first frame of a new connection decides what it is."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._reader = frames.Reader()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._control: Control | None = None
        self._task: asyncio.Task[None] | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        # A process that connects and says nothing must not hold a descriptor for ever.
        self._timer = asyncio.get_running_loop().call_later(_HELLO_WAIT_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._task is not None and self._control is None:
            self._early.append(data)
            return
        try:
            found = self._reader.feed(data)
            for kind, _, payload in found:
                if self._control is not None:
                    if kind == frames.CONTROL:
                        self._listener.control_said(self._control, json.loads(payload))
                elif kind == frames.HELLO and self._task is None:
                    hello = Hello.from_json(json.loads(payload))
                    self._task = asyncio.get_running_loop().create_task(self._welcome(hello))
                else:
                    raise frames.ProtocolError("the first frame must be HELLO")
        except (frames.ProtocolError, ValueError, TypeError, KeyError, AttributeError):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._control is not None:
            self._listener.control_lost(self._control)

    async def _welcome(self, hello: Hello) -> None:
        transport = self._transport
        assert transport is not None
        try:
            admitted = await self._listener.judge(hello)
        except Exception:
            # Without an answer from the store nobody is let in; the runner dials again.
            transport.abort()
            return
        if transport.is_closing():
            return
        if self._timer is not None:
            self._timer.cancel()
        if isinstance(admitted, str):
            transport.write(frames.frame(frames.REFUSED, 0, admitted.encode()))
            transport.close()
            return
        if hello.kind == "control":
            transport.write(frames.frame(frames.WELCOME, 0))
            self._control = self._listener.control_made(hello, transport)
            for data in self._early:
                self.data_received(data)
            return
        transport.write(frames.frame(frames.WELCOME, 0))
        if hello.kind == "template":
            line = TemplateLine(transport)
            transport.set_protocol(line)
            self._listener.on_template(hello.runner_id, line)
            for data in self._early:
                line.data_received(data)
            return
        connection = self._listener.calls_made(admitted, common_version(hello.versions))
        connection.connection_made(transport)
        transport.set_protocol(connection)
        self._listener.calls_open(admitted, connection)
        for data in self._early:
            connection.data_received(data)
