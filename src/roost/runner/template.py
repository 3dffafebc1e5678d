"""The life of a template: import once, then fork whatever is ordered (docs/decisions/0003-templates.md).

A base template imports the runtime and what every app needs. A revision's template is a fork of it that loads the author's class
and runs preload(). A runner is a fork of that. The process is single-threaded and has no event loop: it waits on one blocking socket.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any, Final

from roost.runner import dial, fitness, fork, huge
from roost.runner.load import Loaded, assemble_early, enter, load_app
from roost.runner.logs import Output
from roost.runner.pools import Pools
from roost.runner.warm import warm_up
from roost.wire import frames
from roost.wire.launch import LINK_VERSIONS, Hello, TemplateTicket, Ticket, read_ticket

# What every runner imports sooner or later, measured on one that has answered calls; late imports would be paid by each fork.
_EVERY_RUNNER: Final = (
    "roost.sdk.asgi",
    "roost.sdk.lifecycle",
    "roost.runner.unpickle",
    "roost.runner.direct",
    "roost.runner.onward",
    "fastapi.telemetry._runtime",
    "pydantic.v1",
    "fastapi",
    "pydantic",
    "anyio.to_thread",
    "anyio._backends._asyncio",
    "asyncio",
    "concurrent.futures.thread",
    "email.message",
    "encodings.idna",
    "json",
    "ssl",
    "uuid",
)
_OPTIONAL: Final = ("anyio._backends._asyncio", "ssl", "encodings.idna", "fastapi.telemetry._runtime", "pydantic.v1")
_TRIAL_LIMIT_S: Final = 5.0
_SPARE_AFTER_S: Final = 0.3
"""The next fork is made ahead of its order, but not at once: the one that was just sent off needs the processor."""
_ORDER: Final = struct.Struct(">Qd")
"""Size of the ticket, and until when it is good, ahead of the ticket itself."""


class Unfit(Exception):
    """This process must not be forked; the message is the reason that the author reads."""


class _TookTooLong(BaseException):
    """Raised by the alarm inside whatever takes so long; a BaseException, so that no `except Exception` of an import swallows it."""


@dataclass
class _Orders:
    """The connection to the server."""

    sock: socket.socket
    reader: frames.Reader = field(default_factory=frames.Reader)
    waiting: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @classmethod
    def dial(cls, ticket: TemplateTicket, runtime: str) -> _Orders:
        """Raises OSError when the server is not there or does not want us."""
        orders = cls(dial.connect_any(ticket.addresses))
        hello = Hello("template", ticket.template_id, ticket.token, LINK_VERSIONS, os.getpid(), runtime)
        orders.sock.settimeout(30)
        orders.sock.sendall(frames.frame(frames.HELLO, 0, json.dumps(hello.to_json()).encode()))
        if not orders._receive():
            raise OSError("the server does not know this template")
        # Blocking from here on: a fork shares the flags of its parent's sockets.
        orders.sock.settimeout(None)
        return orders

    def tell(self, body: dict[str, Any]) -> None:
        self.sock.sendall(frames.frame(frames.CONTROL, 0, json.dumps(body).encode()))

    def next(self) -> dict[str, Any] | None:
        """The next order; None when the server is gone."""
        while not self.waiting:
            if not self._receive():
                return None
        return self.waiting.pop(0)

    def come_within(self, seconds: float) -> bool:
        """Whether an order comes in that time, or the server goes."""
        return bool(self.waiting) or bool(select.select([self.sock], [], [], seconds)[0])

    def _receive(self) -> bool:
        data = self.sock.recv(65536)
        found = self.reader.feed(data)
        self.waiting += [json.loads(payload) for kind, _, payload in found if kind == frames.CONTROL]
        return bool(data) and all(kind != frames.REFUSED for kind, _, _ in found)


@dataclass(frozen=True)
class _Spare:
    """A fork that waits for its ticket at the other end of `sock`."""

    pid: int
    sock: socket.socket


def _receive_order(sock: socket.socket) -> tuple[bytes, list[int]]:
    """The head of an order and its descriptor. Ends the process when the template is gone."""
    head, fds, _, _ = socket.recv_fds(sock, _ORDER.size, 1)
    if not head:
        os._exit(0)
    return head + _receive(sock, _ORDER.size - len(head)), fds


def _receive(sock: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        data = sock.recv(size - len(parts))
        if not data:
            os._exit(0)
        parts += data
    return bytes(parts)


class Template:
    """One template process; and, after the fork of a revision's template, that one."""

    def __init__(self, ticket: TemplateTicket, output: Output, runtime: str) -> None:
        self._ticket = ticket
        self._output = output
        self._runtime = runtime
        # Whoever started us adopts what we leave behind.
        self._supervisor = os.getppid()
        self._pools = Pools()
        self._pools.hold()
        self._loaded: Loaded | None = None
        self._spare: _Spare | None = None

    def serve(self) -> tuple[Ticket, Loaded | None] | None:
        """Until the server is gone: None. In a process that is to be a runner: its ticket, and what was loaded for it."""
        while True:
            ordered = self._serve_one()
            if not isinstance(ordered, TemplateTicket):
                return None if ordered is None else (ordered, self._loaded)
            self._ticket = ordered

    def _serve_one(self) -> TemplateTicket | Ticket | None:
        """One template's life; what the fork that returns from here is to become, None for the template itself at its end."""
        try:
            orders = _Orders.dial(self._ticket, self._runtime)
        except (OSError, frames.ProtocolError):
            return None
        try:
            began = time.perf_counter()
            self._prepare()
            orders.tell({"op": "ready", "ms": round((time.perf_counter() - began) * 1000)})
            return self._obey(orders)
        except Unfit as reason:
            with contextlib.suppress(OSError):
                orders.tell({"op": "refused", "reason": str(reason)})
            return None
        except OSError:
            return None  # the server is gone

    # orders

    def _obey(self, orders: _Orders) -> TemplateTicket | Ticket | None:
        """Until the server is gone, or, in a fork, until it knows what to become."""
        while True:
            if self._spare is None and self._keeps_a_spare and not orders.come_within(_SPARE_AFTER_S):
                ticket = self._make_spare(orders, ahead=True)
                if ticket is not None:
                    return ticket
                continue
            order = orders.next()
            if order is None:
                return None
            try:
                if time.monotonic() * 1000 > order["until_ms"]:
                    raise fork.CannotFork("the order came too late")
                if self._spare is None:
                    ticket = self._make_spare(orders, ahead=False)
                    if ticket is not None:
                        return ticket
                pid = self._send_off(order)
            except (fork.CannotFork, OSError) as error:
                orders.tell({"op": "not_forked", "id": order.get("id"), "error": str(error)})
            else:
                orders.tell({"op": "forked", "id": order.get("id"), "pid": pid})

    def _make_spare(self, orders: _Orders, *, ahead: bool) -> TemplateTicket | Ticket | None:
        """Fork a process that waits for its ticket: there it returns with that, here with None. Raises CannotFork.

        `ahead`: nobody waits for it yet, so that it has the time to warm up.
        """
        ours, theirs = socket.socketpair()
        pid = fork.double_fork()
        if pid == 0:
            try:
                ours.close()
                orders.sock.close()  # the template's; it stays open there
                return self._stand_by(theirs, ahead)
            except BaseException:
                # Nothing may come from here back into the template's own work: it would answer in the template's name.
                traceback.print_exc()
                os._exit(127)
        theirs.close()
        self._spare = _Spare(pid, ours)
        if ahead:
            orders.tell({"op": "spare", "pid": pid})
        return None

    def _send_off(self, order: dict[str, Any]) -> int:
        """Give the spare its ticket; answers its pid. Raises OSError."""
        assert self._spare is not None
        spare, self._spare = self._spare, None
        ticket = json.dumps(order["ticket"]).encode()
        # Opened here, so that a file that cannot be opened is an answer to the order.
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
        try:
            socket.send_fds(spare.sock, [_ORDER.pack(len(ticket), order["until_ms"])], [output])
            spare.sock.sendall(ticket)
        finally:
            os.close(output)
            spare.sock.close()
        return spare.pid

    def _stand_by(self, sock: socket.socket, ahead: bool) -> TemplateTicket | Ticket:
        """The forked process: all that needs no ticket, then wait for one. It ends with its template, or with the supervisor."""
        fork.leave(self._supervisor)
        self._output.forget()
        self._spare = None
        if self._keeps_a_spare:
            fork.thaw()
            self._pools.release()
            if ahead:
                warm_up(self._loaded)
        head, (output, *_) = _receive_order(sock)
        size, until_ms = _ORDER.unpack(head)
        ticket = read_ticket(_receive(sock, size).decode())
        sock.close()
        if time.monotonic() * 1000 > until_ms:
            # Nobody waits for us any more: a fresh process has our name by now.
            os._exit(0)
        is_runner = isinstance(ticket, Ticket)
        fork.settle(output, ticket.runner_id if is_runner else ticket.template_id, "roost-runner" if is_runner else "roost-template")
        fork.reseed()
        return ticket

    @property
    def _keeps_a_spare(self) -> bool:
        """A base is asked for a fork so seldom that nobody minds waiting."""
        return self._ticket.bundle != ""

    # becoming ready

    def _prepare(self) -> None:
        """Import, preload, and find out whether that can be forked. Raises Unfit with the reason."""
        what = "the class and its imports" if self._ticket.bundle else "the runtime"
        try:
            with _time_limit(self._ticket.limit_ms / 1000):
                if not self._ticket.bundle:
                    self._import_base()
                else:
                    before = fitness.open_files()
                    gc.enable()
                    os.environ.update(self._ticket.env)
                    os.environ["FAL_RUNNER_STATE"] = os.environ["ROOST_RUNNER_STATE"] = "TEMPLATE"
                    given = dict(os.environ)
                    enter(self._ticket.bundle, self._ticket.working_dir)
                    app = load_app(self._ticket.bundle)
                    what = "preload()"
                    self._preload(app)
                    chosen = frozenset(name for name, value in os.environ.items() if given.get(name) != value)
                    self._loaded = replace(assemble_early(app), chosen=chosen)
                    _check(fitness.findings(before))
        except _TookTooLong as late:
            raise Unfit(f"{what} did not end within {self._ticket.limit_ms / 1000:g} s; it was {late}") from None
        except Unfit:
            raise
        except BaseException as error:
            traceback.print_exc()
            raise Unfit(f"{what} raised {type(error).__name__}: {str(error)[:500]}") from None
        self._pools.find()
        fork.freeze()
        if self._ticket.bundle:
            huge.collapse()
        self._try_a_fork()
        _check(fitness.native_threads())

    def _import_base(self) -> None:
        for name in _EVERY_RUNNER:
            try:
                importlib.import_module(name)
            except ImportError:
                if name not in _OPTIONAL:
                    raise

    def _preload(self, app: Any) -> None:
        from roost.sdk.lifecycle import run_preload

        run_preload(app)

    def _try_a_fork(self) -> None:
        """A child does what each runner does right after its fork, and computes a little. Raises Unfit if it dies or hangs."""
        pid = fork.once()
        if pid == 0:
            self._trial()
        deadline = time.monotonic() + _TRIAL_LIMIT_S
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise Unfit(f"a trial fork hung: it did not end within {_TRIAL_LIMIT_S:g} s")
            time.sleep(0.002)
        code = os.waitstatus_to_exitcode(ended[1])
        if code:
            how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            raise Unfit(f"a trial fork {how}")

    def _trial(self) -> None:
        code = 1
        try:
            # In a group of its own: what it may start goes with it.
            os.setpgid(0, 0)
            fork.reseed()
            self._pools.release()
            _compute()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)


def _compute() -> None:
    """What hangs in a fork, if it does: a product of matrices, large enough that a library would share it among threads."""
    if (numpy := sys.modules.get("numpy")) is not None and hasattr(numpy, "ones"):
        square = numpy.ones((256, 256), dtype="float32")
        _ = square @ square
    if (torch := sys.modules.get("torch")) is not None and hasattr(torch, "ones"):
        square = torch.ones((256, 256))
        _ = square @ square
    gc.collect(0)


def _check(found: list[str]) -> None:
    if found:
        raise Unfit("; ".join(found))


@contextlib.contextmanager
def _time_limit(limit_s: float) -> Iterator[None]:
    """Raises _TookTooLong, saying where, in whatever takes longer. C code that never returns is ended by the server instead."""

    def late(_: int, frame: FrameType | None) -> None:
        raise _TookTooLong(_where(frame))

    previous = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _where(frame: FrameType | None) -> str:
    if frame is None:
        return "outside of Python"
    return f"in {frame.f_code.co_name}() of {frame.f_code.co_filename}:{frame.f_lineno}"
