"""The life of a runner: load the class, run setup(), dial the gateways, serve, and end in good order.

spec: app-lifecycle.md §3 (process model), §4 (start-up), §8 (shutdown). The order at SIGTERM: handle_exit() at once, no new calls,
calls in flight finish, teardown(), exit. The grace period's SIGKILL comes from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from roost.runner import dial
from roost.runner.calls import CallConnection, Watch
from roost.runner.control import Control, stacks
from roost.runner.dispatch import AsgiApp
from roost.runner.keep import Keep, Listeners
from roost.runner.load import Loaded, load_app, still_fits
from roost.runner.logs import Output
from roost.runner.probe import Prober
from roost.wire.launch import LINK_VERSIONS, Hello, Ticket
from roost.wire.session import Slots

_GOAWAY_WAIT_S = 1.0
_TAKEN_WAIT_S = 5.0
"""How long a runner that ends waits for a server to take the results that it keeps."""
_USUAL_LIMIT_MS = 3_600_000
"""Of a call, where the server has not said."""
EXIT_LOAD_FAILED = 81
EXIT_SETUP_FAILED = 82


class Host:
    """One runner process."""

    def __init__(self, ticket: Ticket, output: Output, runtime: str, loaded: Loaded | None = None) -> None:
        """`loaded`: the app as a template has made it; without it the class is loaded here."""
        self._ticket = ticket
        self._output = output
        self._runtime = runtime
        self._slots = Slots(ticket.spec.max_multiplexing or 1)
        self._control = Control(ticket, os.getpid(), runtime, self._order)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loaded = loaded
        self._app: Any = None
        self._ms: dict[str, int] = {}
        """How long each part of the start took."""
        self._handle_exit: Callable[[], None] | None = None
        self._asgi: AsgiApp | None = None
        self._prober: Prober | None = None
        self._keep = Keep(self._slots, output, Listeners(self._call_ended, self._tell_held, self._process_ends))
        self._connections: set[CallConnection] = set()
        self._newest: CallConnection | None = None
        """To the server that serves now. Older ones end with the calls on them, and nobody dials for them again."""
        self._stopping: asyncio.Event | None = None
        self._ended_call: asyncio.Event = asyncio.Event()
        """Set whenever a call has ended."""
        self._exit_asked = False
        self._serving = False
        self._is_last_server = False
        """Everything is being stopped: no server will come for what is kept."""
        self._dials: set[asyncio.Task[None]] = set()

    def run(self) -> int:
        """Serve until told to stop. Answers the process's exit code."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        self._control.start()
        os.environ["FAL_RUNNER_STATE"] = os.environ["ROOST_RUNNER_STATE"] = "SETUP"
        stage = "load"
        try:
            with self._timed("load"):
                self._load()
            stage = "preload"
            with self._timed("preload"):
                self._preload()
        except BaseException as error:
            if self._exit_asked:
                return 0
            self._failed(stage, error)
            return EXIT_LOAD_FAILED if stage == "load" else EXIT_SETUP_FAILED
        return asyncio.run(self._serve())

    def _load(self) -> None:
        # Imported here and not at the top: everything that the author's environment may lack must fail inside this report.
        from roost.sdk.lifecycle import run_handle_exit

        self._control.report({"op": "state", "state": "SETUP"})
        app = self._loaded.app if self._loaded is not None else load_app(self._ticket.bundle)
        self._handle_exit = lambda: run_handle_exit(app)
        self._app = app

    def _preload(self) -> None:
        from roost.sdk.lifecycle import run_preload

        run_preload(self._app)  # nothing, where a template has done it

    @contextlib.contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._ms[part] = round((time.perf_counter() - began) * 1000)

    async def _serve(self) -> int:
        from roost.runner import onward
        from roost.runner.direct import in_front_of
        from roost.sdk.asgi import build_asgi
        from roost.sdk.lifecycle import run_setup, run_teardown

        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        onward.pass_on(self._ticket.spec.request_timeout_ms or _USUAL_LIMIT_MS)
        _widen_threads(max(40, self._slots.limit))
        lifespan: _Lifespan | None = None
        try:
            with self._timed("setup"):
                await run_setup(self._app)
            early = self._loaded if self._loaded is not None and still_fits(self._app) else None
            asgi = early.asgi if early is not None and early.asgi is not None else build_asgi(self._app)
            lifespan = _Lifespan(asgi)
            await lifespan.start()
            self._asgi = early.front if early is not None and early.front is not None else in_front_of(asgi, self._app)
        except BaseException as error:
            if self._exit_asked:
                return 0
            self._failed("setup", error)
            return EXIT_SETUP_FAILED
        os.environ["FAL_RUNNER_STATE"] = os.environ["ROOST_RUNNER_STATE"] = "RUNNING"
        self._serving = True
        self._prober = Prober(self._asgi, self._output, self._control.answer, self._process_ends)
        if self._ticket.spec.health_check is None:
            self._take_calls()
        else:
            self._control.report({"op": "state", "state": "CHECK"})
        await self._stopping.wait()
        await self._drain()
        os.environ["FAL_RUNNER_STATE"] = os.environ["ROOST_RUNNER_STATE"] = "TERMINATING"
        try:
            await lifespan.stop()
            await run_teardown(self._app)
        except Exception:
            self._output.say("teardown() raised:\n" + traceback.format_exc().rstrip())
        for connection in list(self._connections):
            await connection.close()
        self._output.finish()
        self._control.finish(None)
        return 0

    async def _drain(self) -> None:
        """Say to every gateway that nothing more is taken, and let what runs come to its end."""
        self._slots.draining = True
        for connection in list(self._connections):
            connection.go_away()
        confirmed = [connection.goaway_confirmed for connection in self._connections]
        if confirmed:
            # A call that was on its way when the gateway heard of it is answered BUSY, not lost.
            await asyncio.wait(confirmed, timeout=_GOAWAY_WAIT_S)
        while self._slots.in_use or any(connection.busy for connection in self._connections):
            self._ended_call.clear()
            await self._ended_call.wait()
        if not self._is_last_server:
            await self._keep.emptied(_TAKEN_WAIT_S)

    # connections

    def _take_calls(self) -> None:
        """Also told a second time, by a server that did not hear how the first ended."""
        if self._control.state != "READY":
            self._control.state = "READY"
            self._dial()

    def _dial(self) -> None:
        assert self._loop is not None
        task = self._loop.create_task(self._dial_until_welcome())
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial_until_welcome(self) -> None:
        assert self._loop is not None
        pause = 0.01
        while self._is_needed:
            try:
                sock = await self._connect()
                sock.setblocking(False)
                connect = self._loop.create_unix_connection if sock.family == socket.AF_UNIX else self._loop.create_connection
                await connect(self._new_connection, sock=sock)
                return
            except OSError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)

    @property
    def _is_needed(self) -> bool:
        """Whether a server is to be found: to work for, or to take what is kept."""
        return not self._slots.draining or self._keep.holds

    async def _connect(self) -> socket.socket:
        assert self._loop is not None
        if self._newest is None:
            # Nothing else is there to be held up, and a thread would make the first caller wait for its start.
            return dial.connect_any(self._ticket.addresses)
        return await self._loop.run_in_executor(None, dial.connect_any, self._ticket.addresses)

    def _new_connection(self) -> CallConnection:
        assert self._asgi is not None
        hello = Hello(
            "calls",
            self._ticket.runner_id,
            self._ticket.token,
            LINK_VERSIONS,
            os.getpid(),
            self._runtime,
            "READY",
            self._slots.limit,
            self._slots.in_use,
        )
        watch = Watch(self._welcomed, self._lost, self._call_ended, self._process_ends)
        return CallConnection(self._asgi, self._slots, self._output, hello, watch, self._keep)

    def _call_ended(self) -> None:
        self._ended_call.set()
        if self._newest is not None and self._newest.held:
            self._tell_held()

    def _tell_held(self) -> None:
        if self._newest is not None:
            self._newest.tell_held(self._slots.in_use - self._newest.session.slots_taken)

    def _welcomed(self, connection: CallConnection) -> None:
        self._connections.add(connection)
        self._newest = connection
        # What changed since its hello.
        self._tell_held()
        connection.tell_kept()
        if self._slots.draining:
            connection.go_away()
        self._control.report({"op": "state", "state": "READY", "ms": self._ms})

    def _lost(self, connection: CallConnection, refusal: str) -> None:
        was_welcome = connection in self._connections
        self._connections.discard(connection)
        if refusal:
            self._output.say(f"the server refused this runner: {refusal}")
            self._keep.drop_all()
            self._begin_exit()
        elif self._is_needed and (connection is self._newest or not was_welcome):
            assert self._loop is not None
            # A gateway that refuses without a word must not be dialled in a busy loop.
            self._loop.call_later(0.0 if was_welcome else 0.25, self._dial)

    def _process_ends(self) -> None:
        # Draining: a connection that is lost now must not be dialled again.
        self._slots.draining = True
        self._keep.drop_all()
        for connection in list(self._connections):
            connection.break_off()

    # orders and signals

    def _order(self, order: dict[str, Any]) -> None:
        """On the control thread."""
        op = order.get("op")
        loop = self._loop
        if op == "ping":
            self._on_loop(self._control.answer, {"op": "pong", "id": order.get("id")})
        elif op == "health" and self._prober is not None:
            self._on_loop(self._prober.ask, order)
        elif op == "serve" and self._serving:
            self._on_loop(self._take_calls)
        elif op == "stack":
            self._control.answer({"op": "stack", "id": order.get("id"), "text": stacks()})
        elif op == "slots":
            self._slots.limit = max(1, int(order["limit"]))
        elif op == "redial" and loop is not None and self._control.state == "READY":
            loop.call_soon_threadsafe(self._dial)
        elif op == "shutdown":
            self._is_last_server = True
        elif op == "drain" and loop is not None:
            loop.call_soon_threadsafe(self._begin_drain)
        elif op == "refused":
            self._output.say(f"the server refused this runner: {order.get('reason')}")
            os.kill(os.getpid(), signal.SIGTERM)

    def _on_loop(self, do: Callable[..., object], *args: Any) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed: the process ends
                self._loop.call_soon_threadsafe(do, *args)

    def _begin_drain(self) -> None:
        self._slots.draining = True
        for connection in self._connections:
            connection.go_away()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: handle_exit() runs here, at once, also when a handler holds the event loop."""
        if self._exit_asked:
            return
        self._exit_asked = True
        if self._handle_exit is not None:
            try:
                self._handle_exit()
            except BaseException:
                self._output.say("handle_exit() raised:\n" + traceback.format_exc().rstrip())
        if self._serving:
            self._begin_exit()
        else:
            raise SystemExit(0)  # interrupts a setup() that runs or an import that hangs

    def _begin_exit(self) -> None:
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)

    def _failed(self, stage: str, error: BaseException) -> None:
        text = "".join(traceback.format_exception(type(error), error, _from_authors_frames(error.__traceback__))).rstrip()
        for line in text.splitlines():
            print(line, file=sys.stderr)
        self._output.finish()
        self._control.finish(
            {
                "op": "failed",
                "stage": stage,
                "error": f"{type(error).__name__}: {error}" if str(error) else type(error).__name__,
                "traceback": text[-16_000:],
                "hint": str(getattr(error, "hint", "")),
            }
        )


def _from_authors_frames(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without our own frames above the author's first; all of it if there is none of theirs."""
    ours = str(Path(__file__).parent.parent)
    found = trace
    while found is not None and found.tb_frame.f_code.co_filename.startswith(ours):
        found = found.tb_next
    return found or trace


class _Lifespan:
    """The ASGI lifespan of the author's FastAPI app: start-up before the first call, shutdown after the last."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outbox: asyncio.Queue[Any] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._ask("startup")

    async def stop(self) -> None:
        if self._task is not None and not self._task.done():
            await self._ask("shutdown")
            await asyncio.wait([self._task])

    async def _ask(self, phase: str) -> None:
        await self._inbox.put({"type": f"lifespan.{phase}"})
        answer = await self._outbox.get()
        if answer is not None and answer["type"] == f"lifespan.{phase}.failed":
            raise RuntimeError(f"the app's lifespan {phase} failed: {answer.get('message', '')}")

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        try:
            await self._app(scope, self._inbox.get, self._outbox.put)
        except Exception:
            print(traceback.format_exc().rstrip(), file=sys.stderr)
            await self._outbox.put({"type": "lifespan.startup.failed", "message": "it raised (see the log)"})
        else:
            await self._outbox.put(None)


def _widen_threads(count: int) -> None:
    """Sync handlers run in anyio's threads; fewer than the slots would make a slot wait for a thread."""
    import anyio.to_thread

    anyio.to_thread.current_default_thread_limiter().total_tokens = count
