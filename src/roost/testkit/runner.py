"""A runner without a process: speaks the link as a real one does, and does what its script says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from roost.backends.base import Launch
from roost.kit.spawn import Exited
from roost.runner.heads import request_of
from roost.runner.keep import Keep, Kept, Listeners
from roost.runner.logs import Output
from roost.testkit.kept import played
from roost.testkit.pipe import PipeEnd
from roost.testkit.script import FOREVER, Answer, Crash, Received, Script
from roost.wire import frames
from roost.wire.frames import Attempt, RequestHead, ResponseHead
from roost.wire.launch import LINK_VERSIONS, Hello
from roost.wire.session import RunnerSession, Slots

_EXIT_SETUP_FAILED = 82
_GOAWAY_WAIT_S = 1.0
_TAKEN_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a fake runner stands in."""

    dial: Callable[[asyncio.Protocol], PipeEnd]
    """Connects to the server; raises ConnectionRefusedError while there is none."""
    now_ms: Callable[[], int]
    ran: Callable[[Received], None]
    """Called with each call that begins to run."""
    exited: Callable[[Exited], None]


class FakeRunner:
    """The life of one runner. `terminate` and `kill` are its signals."""

    def __init__(self, launch: Launch, script: Script, pid: int, around: Surroundings) -> None:
        self.id = launch.runner_id
        self.launch = launch
        self.script = script
        self.pid = pid
        self.around = around
        self.slots = Slots(launch.slots)
        self.keep = Keep(
            self.slots, Output(), Listeners(self._tell_held, self._tell_held, lambda: None), now_s=lambda: around.now_ms() / 1000
        )
        self.state = "SETUP"
        self.checked_ms: list[int] = []
        """When its health was asked."""
        self.calls = 0
        """Handlers that run now, those that take no slot included."""
        self.ended = asyncio.Event()
        self.frozen = False
        self.deaf = False
        """It dials nobody any more: a process whose threads are all stuck."""
        self._control = _Control(self)
        self._lines: set[_Calls] = set()
        self._newest: _Calls | None = None
        """To the server that serves now; older ones end with the calls on them."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._rested = asyncio.Event()
        self._terminated = False
        self.spawn(self._live())

    @property
    def _health(self) -> str:
        if not self.script.knows_health:
            return ""
        return "usual" if self.launch.revision.spec.health_check is None else "declared"

    @property
    def leaving(self) -> bool:
        """It was told to go, gently or not."""
        return self._terminated or self.slots.draining

    # what tests do to it

    def terminate(self) -> None:
        """SIGTERM."""
        if self.script.ignores_sigterm or self._terminated or self.frozen:
            return
        self._terminated = True
        if self.state != "READY" or not self.script.goes_away_on_sigterm:
            self.end(code=0)
        else:
            self.spawn(self._leave())

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.end(signal_number=int(number))

    def freeze(self) -> None:
        """SIGSTOP: it hears and says nothing any more, and only SIGKILL ends it."""
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        self.frozen = False
        for line in list(self._lines):
            line.thaw()

    def occupy(self) -> None:
        """Take a slot for a call of some other gateway."""
        assert self.slots.take(), "it has no slot left"

    def vacate(self) -> None:
        self.slots.give()

    def disconnect(self) -> None:
        """The connection for calls breaks; the process lives and dials again."""
        for line in list(self._lines):
            line.hang_up()

    # its life

    async def _live(self) -> None:
        await self.sleep(self.script.load_ms)
        self._control.report({"op": "state", "state": "SETUP"})
        self.spawn(self._control.keep())
        await self.sleep(self.script.setup_ms)
        if self.script.dies_in_setup is not None:
            self.end(signal_number=self.script.dies_in_setup)
        elif self.script.setup_error:
            await self._control.finish({"op": "failed", "stage": "setup", "error": self.script.setup_error, "traceback": "", "hint": ""})
            self.end(code=_EXIT_SETUP_FAILED)
        elif self._health == "declared":
            self.state = "CHECK"
            self._control.report({"op": "state", "state": "CHECK"})
        else:
            await self._take_calls()

    async def _take_calls(self) -> None:
        if self.state != "READY":
            self.state = "READY"
            await self._dial()

    async def _answer_check(self, order: dict[str, Any]) -> None:
        nth = len(self.checked_ms)
        self.checked_ms.append(self.around.now_ms())
        answer = self.script.health(nth)
        late = answer.after_ms >= order["timeout_ms"]
        await self.sleep(order["timeout_ms"] if late else answer.after_ms)
        result = {"status": 0, "detail": f"did not answer within {order['timeout_ms'] / 1000:g} s"} if late else {"status": answer.status}
        self._control.answer({"op": "health", "id": order["id"], **result})

    def dial(self, protocol: asyncio.Protocol) -> PipeEnd:
        if self.deaf or self.frozen:
            raise ConnectionRefusedError("this runner dials nobody any more")
        return self.around.dial(protocol)

    async def _dial(self) -> None:
        while not self.slots.draining or self.keep.holds:
            with contextlib.suppress(ConnectionRefusedError):
                self.dial(_Calls(self))
                return
            await asyncio.sleep(0.05)

    async def _leave(self) -> None:
        """No new calls, those that run come to their end, exit (spec: app-lifecycle.md §8)."""
        self.drain()
        confirmed = [line.confirmed for line in self._lines]
        if confirmed:
            await asyncio.wait(confirmed, timeout=_GOAWAY_WAIT_S)
        while self.calls:
            self._rested.clear()
            await self._rested.wait()
        await self.keep.emptied(_TAKEN_WAIT_S)
        self.end(code=0)

    def drain(self) -> None:
        self.slots.draining = True
        for line in self._lines:
            line.go_away()

    def end(self, *, code: int | None = None, signal_number: int | None = None) -> None:
        """The process is gone, and with it its connections and all that it was doing."""
        if self.ended.is_set():
            return
        self.ended.set()
        self.state = "ENDED"
        self._control.hang_up()
        for line in list(self._lines):
            line.hang_up()
        for task in self._tasks:
            task.cancel()
        self.keep.drop_all()
        self.around.exited(Exited(self.id, "runner", self.pid, code, signal_number))

    # orders of the server

    def order(self, body: dict[str, Any]) -> None:
        if self.frozen:
            return
        match body.get("op"):
            case "ping":
                if not self.script.holds_loop:
                    self._control.answer({"op": "pong", "id": body["id"]})
            case "health":
                if not self.script.holds_loop:
                    self.spawn(self._answer_check(body))
            case "serve":
                self.spawn(self._take_calls())
            case "drain":
                self.drain()
            case "slots":
                self.slots.limit = int(body["limit"])
            case "redial" if self.state == "READY":
                self.spawn(self._dial())
            case _:
                pass

    # for its connections

    def hello(self, kind: str) -> bytes:
        hello = Hello(
            kind, self.id, self.launch.token, LINK_VERSIONS, self.pid, "fake", self.state, self.slots.limit, self.slots.in_use, self._health
        )  # fmt: skip
        return frames.frame(frames.HELLO, 0, json.dumps(hello.to_json()).encode())

    def welcomed(self, line: _Calls) -> None:
        self._lines.add(line)
        self._newest = line
        line.tell_held(self.slots.in_use - line.session.slots_taken)
        line.tell_kept()
        if self.slots.draining:
            line.go_away()
        self._control.report({"op": "state", "state": "READY"})

    def lost(self, line: _Calls) -> None:
        self._lines.discard(line)
        if line is self._newest and not self.ended.is_set():
            self.spawn(self._dial())

    def began(self, head: RequestHead, body: bytes) -> Received:
        """A kept call's handler runs, in the task that asks."""
        self.calls += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        call = Received(self.id, head, body, self.around.now_ms(), False)
        self.around.ran(call)
        return call

    def rested(self) -> None:
        self.calls -= 1
        self._rested.set()
        self._tell_held()

    def _tell_held(self) -> None:
        if self._newest is not None and self._newest.held:
            self._newest.tell_held(self.slots.in_use - self._newest.session.slots_taken)

    def spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def sleep(self, ms: int) -> None:
        if ms >= FOREVER:
            await self.ended.wait()
        if ms:
            await asyncio.sleep(ms / 1000)


class _Control(asyncio.Protocol):
    """The control connection, dialled again whenever it breaks."""

    def __init__(self, runner: FakeRunner) -> None:
        self._runner = runner
        self._transport: PipeEnd | None = None
        self._welcome = False
        self._kept: dict[str, Any] | None = None
        self._reader = frames.Reader()
        self._lost = asyncio.Event()

    async def keep(self) -> None:
        pause = 0.02
        while not self._runner.ended.is_set():
            self._reader, self._welcome = frames.Reader(), False
            self._lost.clear()
            with contextlib.suppress(ConnectionRefusedError):
                self._transport = self._runner.dial(self)
                self._transport.write(self._runner.hello("control"))
                await self._lost.wait()
                pause = 0.02
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    def report(self, body: dict[str, Any]) -> None:
        """What cannot be said now is said after the next welcome; only the newest is kept."""
        if self._welcome and self._transport is not None:
            self._transport.write(frames.frame(frames.CONTROL, 0, json.dumps(body).encode()))
        else:
            self._kept = body

    def answer(self, body: dict[str, Any]) -> None:
        """Said now or never."""
        if self._welcome:
            self.report(body)

    async def finish(self, body: dict[str, Any]) -> None:
        """A last word, for which it waits two seconds for a connection."""
        self.report(body)
        for _ in range(100):
            if self._kept is None:
                return
            await asyncio.sleep(0.02)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        for kind, _, payload in self._reader.feed(data):
            if kind == frames.WELCOME:
                self._welcome = True
                kept, self._kept = self._kept, None
                if kept is not None:
                    self.report(kept)
            elif kind == frames.REFUSED:
                self._runner.terminate()
            elif kind == frames.CONTROL:
                order = json.loads(payload)
                self._runner.order(order)
                if order.get("op") == "redial":
                    # Whoever comes next gives the orders.
                    self.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self._welcome = False
        self._transport = None
        self._lost.set()


@dataclass(slots=True)
class _Stream:
    head: RequestHead
    body: bytearray
    task: asyncio.Task[None] | None = None
    minds_caller: bool = False


class _Calls(asyncio.Protocol):
    """One connection for calls."""

    def __init__(self, runner: FakeRunner) -> None:
        self._runner = runner
        self.session = RunnerSession(runner.slots)
        self.held = runner.slots.in_use
        self._streams: dict[int, _Stream] = {}
        self._kept: dict[int, Kept] = {}
        self._unheard: list[bytes] = []
        self._transport: PipeEnd | None = None
        self._credit = asyncio.Event()
        self._flush_planned = False
        self.confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, PipeEnd)
        self._transport = transport
        transport.write(self._runner.hello("calls"))

    def data_received(self, data: bytes) -> None:
        if self._runner.frozen:
            self._unheard.append(data)
            return
        for kind, stream, value in self.session.receive(data):
            if kind == frames.WELCOME:
                self._runner.welcomed(self)
            elif kind == frames.REFUSED:
                self._runner.terminate()
            elif kind == frames.HEAD and stream in self.session.keeps:
                self._begin_kept(self.session.keeps.pop(stream), stream, value)
            elif kind == frames.HEAD:
                self._streams[stream] = _Stream(value, bytearray())
            elif kind in (frames.BODY, frames.BODY_END) and stream in self._kept:
                self._kept[stream].feed(value, end=kind == frames.BODY_END)
            elif kind in (frames.BODY, frames.BODY_END):
                self._fed(stream, value, kind == frames.BODY_END)
            elif kind == frames.CANCEL and stream in self._kept:
                self._kept[stream].caller_gone()
            elif kind == frames.CANCEL and stream in self._streams:
                self._caller_gone(stream)
            elif kind == frames.CREDIT:
                self._credit.set()
                if stream in self._kept:
                    self._kept[stream].flow()
            elif kind == frames.RESUME:
                if not self._runner.keep.resume(value, self, stream):
                    self.session.not_known(stream)
            elif kind == frames.CONTROL:
                self._ordered(value)
            elif kind == frames.GOAWAY_OK and not self.confirmed.done():
                self.confirmed.set_result(None)
        self._plan_flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for stream in self.session.broken():
            if stream in self._kept:
                self._kept[stream].detach()
            elif stream in self._streams:
                self._caller_gone(stream)
            else:
                self.session.done(stream)
        self._credit.set()
        if not self.confirmed.done():
            self.confirmed.set_result(None)
        self._runner.lost(self)

    def tell_held(self, calls: int) -> None:
        """To the server that serves now: so many slots are taken by calls of earlier ones."""
        if calls != self.held:
            self.held = calls
            self.session.control({"op": "held", "calls": calls})
            self._plan_flush()

    def tell_kept(self) -> None:
        if attempts := self._runner.keep.attempts():
            self.session.name_attempts("kept", attempts)
            self._plan_flush()

    def go_away(self) -> None:
        self.session.go_away()
        self._plan_flush()

    def hang_up(self) -> None:
        if self._transport is not None:
            # A process that dies has written what it had handed to its socket, which is what was flushed.
            self._transport.close()

    def thaw(self) -> None:
        """The process runs again: it reads what came meanwhile, and writes what it had to say."""
        unheard, self._unheard = self._unheard, []
        for data in unheard:
            self.data_received(data)
        self._plan_flush()

    # runner.keep.Line

    def respond(self, stream: int, head: bytes) -> None:
        self.session.respond_encoded(stream, head)
        self._plan_flush()

    def send_body(self, stream: int, data: bytes, *, end: bool = False) -> bool:
        sent = self.session.send_body(stream, data, end=end)
        self._plan_flush()
        return sent

    def consumed(self, stream: int, size: int) -> None:
        self.session.consumed(stream, size)
        self._plan_flush()

    def reset(self, stream: int, code: str, detail: str) -> None:
        self.session.reset(stream, code, detail)
        self._plan_flush()

    def done(self, stream: int) -> None:
        self._kept.pop(stream, None)
        self.session.done(stream)
        self._plan_flush()

    def writable(self, stream: int) -> bool:
        return self.session.writable(stream)

    def resumed(self, stream: int, kept: Kept, *, takes_slot: bool) -> None:
        self._kept[stream] = kept
        self.session.resumed(stream, takes_slot=takes_slot)
        if takes_slot:
            self.held = max(0, self.held - 1)
        self._plan_flush()

    def let_go(self, stream: int) -> bool:
        self._kept.pop(stream, None)
        holds = self.session.let_go(stream)
        self._plan_flush()
        return holds

    def _begin_kept(self, attempt: Attempt, stream: int, head: RequestHead) -> None:
        runner = self._runner
        self._kept[stream] = runner.keep.begin(attempt, request_of(head), self, stream, played(runner, head))

    def _ordered(self, body: dict[str, Any]) -> None:
        attempts = frames.attempts_of(body)
        (self._runner.keep.taken if body.get("op") == "taken" else self._runner.keep.drop)(attempts)

    # calls

    def _fed(self, stream: int, data: bytes, end: bool) -> None:
        entry = self._streams[stream]
        entry.body += data
        self.session.consumed(stream, len(data))
        if end:
            self._runner.calls += 1
            entry.task = self._runner.spawn(self._serve(stream, entry))

    def _caller_gone(self, stream: int) -> None:
        entry = self._streams[stream]
        if entry.task is None:
            self._fail(stream)
        elif entry.minds_caller:
            entry.task.cancel()

    async def _serve(self, stream: int, entry: _Stream) -> None:
        runner = self._runner
        call = Received(runner.id, entry.head, bytes(entry.body), runner.around.now_ms(), not self.session.takes_slot(stream))
        runner.around.ran(call)
        try:
            reply = runner.script.answer(call)
            entry.minds_caller = isinstance(reply, Answer) and reply.minds_caller
            await self._reply(stream, reply)
        except asyncio.CancelledError:
            # Also the end of the process, where nobody hears it any more.
            self._fail(stream)
        else:
            self._done(stream)
        finally:
            runner.rested()

    async def _reply(self, stream: int, reply: Answer | Crash) -> None:
        await self._sleep(reply.after_ms)
        if isinstance(reply, Crash):
            if reply.head_first:
                self.session.respond(stream, ResponseHead(200, []))
                self.session.send_body(stream, b"the beginning")
                self._flush()
            self._runner.end(signal_number=reply.signal)
            return
        # As most apps do; a stream's length is not known before its end.
        length = [] if reply.stream_ms else [(b"content-length", b"%d" % len(reply.body))]
        self.session.respond(stream, ResponseHead(reply.status, [*reply.headers, *length]))
        if reply.stream_ms:
            self._plan_flush()
            await self._sleep(reply.stream_ms)
        self.session.send_body(stream, reply.body, end=True)
        self._plan_flush()
        while not self.session.writable(stream) and self._transport is not None:
            self._credit.clear()
            await self._credit.wait()
        await self._sleep(reply.linger_ms)

    def _fail(self, stream: int) -> None:
        self.session.reset(stream, "runner_server_error", "the handler was cancelled")
        self._done(stream)

    def _done(self, stream: int) -> None:
        self._streams.pop(stream, None)
        self.session.done(stream)
        self._plan_flush()

    async def _sleep(self, ms: int) -> None:
        if ms >= FOREVER:
            await self._runner.ended.wait()
        if ms:
            await asyncio.sleep(ms / 1000)

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        if self._runner.frozen:
            return
        data = self.session.take()
        if data and self._transport is not None:
            self._transport.write(data)
