"""TLS on the port beside plain HTTP on it: calls, new connections, and what idle ones weigh."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

from benchmarks.echo import Contender, Turn, echo_on, must_be_equal, take_turn
from benchmarks.harness import processes, wrk
from benchmarks.harness.bench import Bench
from benchmarks.harness.figures import Goal, at_least, at_most, interleaved, ratios
from benchmarks.harness.programs import Broken
from benchmarks.harness.roosts import Roost
from benchmarks.harness.tables import number, spread
from benchmarks.memory import allow_many_files, connected

CALLERS = (1, 16)
HEALTH = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


def run(bench: Bench) -> None:
    allow_many_files()
    with bench.roost("tls") as roost:
        calls(bench, roost)
        new_connections(bench, roost)
    idle_connections(bench, 200 if bench.options.quick else 1000)


def calls(bench: Bench, roost: Roost) -> None:
    """The same call by the same connections, plain and below TLS."""
    plain = echo_on(roost)
    contenders = {"plain": plain, "tls": replace(plain, post=replace(plain.post, url=plain.post.url.replace("http:", "https:")))}
    must_be_equal({"plain": plain.post})
    rounds, seconds = (2, 1) if bench.options.quick else (5, 2)
    measured: dict[int, dict[str, list[Turn]]] = {}
    for contender in contenders.values():
        wrk.press(contender.post, 16, 1)
    for callers in CALLERS:
        bench.say(f"{callers} callers: {rounds} rounds of {', '.join(contenders)}")
        turns: dict[str, Callable[[], Turn]] = {name: partial(take_turn, one, callers, seconds) for name, one in contenders.items()}
        measured[callers] = interleaved(turns, rounds)
    show(bench, contenders, measured)


def show(bench: Bench, contenders: dict[str, Contender], measured: dict[int, dict[str, list[Turn]]]) -> None:
    rows: list[list[str]] = []
    for callers, by_contender in measured.items():
        speeds = {name: [turn.load.calls_s for turn in turns] for name, turns in by_contender.items()}
        over = bench.record(f"{callers}.over_plain", "x plain", ratios(speeds["tls"], speeds["plain"]), at_least(0.5))
        for name, turns in by_contender.items():
            bench.record(f"{callers}.{name}.calls_s", "calls/s", speeds[name])
            bench.record(f"{callers}.{name}.p50", "ms", [turn.load.p50_ms for turn in turns])
            cpu = bench.record(f"{callers}.{name}.gateway_cpu", "µs/call", [turn.cpu_us["gateway"] for turn in turns])
            rows.append(
                [
                    f"{callers} callers, {name}",
                    number(median(speeds[name])),
                    spread(speeds[name]),
                    number(over.median if name == "tls" else 1),
                    number(median(turn.load.p50_ms for turn in turns)),
                    number(cpu.median),
                ]
            )
    bench.show(["", "calls/s", "min-max", "x plain", "p50 ms", "gateway CPU µs a call"], rows)


def new_connections(bench: Bench, roost: Roost) -> None:
    """From dialling to the first answer, one after another: TCP, the handshake, GET /health. The caller's half of the work is in it."""
    context = ssl.create_default_context(cafile=roost.home / "state" / "tls" / "ca.pem")
    count = 50 if bench.options.quick else 300
    server = roost.server_pid()
    ways: dict[str, tuple[Callable[[], float], Goal | None]] = {
        "plain": (Dialler(roost.port), None),
        "full": (Dialler(roost.port, context), at_most(5)),
        "resumed": (Dialler(roost.port, context, again=True), None),
    }
    for name, (dial_once, goal) in ways.items():
        bench.say(f"{count} new connections, {name}")
        dial_once()
        before = processes.cpu_s(server)
        took = [dial_once() for _ in range(count)]
        bench.record(f"new.{name}.first_answer_p50", "ms", [median(took)], goal)
        bench.record(f"new.{name}.server_cpu", "µs", [(processes.cpu_s(server) - before) * 1e6 / count])


@dataclass
class Dialler:
    """Milliseconds from dialling to the first answer of one connection. `again`: it shows what the last one was given for that (a ticket)."""

    port: int
    context: ssl.SSLContext | None = None
    again: bool = False
    session: ssl.SSLSession | None = None

    def __call__(self) -> float:
        begin = time.perf_counter()
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", self.port), timeout=10))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.context is not None:
                connection = stack.enter_context(self.context.wrap_socket(connection, server_hostname="127.0.0.1", session=self.session))
            connection.sendall(HEALTH)
            if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
                raise Broken("GET /health was not answered with 200")
            took = (time.perf_counter() - begin) * 1000
            if self.again and isinstance(connection, ssl.SSLSocket):
                if self.session is not None and not connection.session_reused:
                    raise Broken("the server did not take its own ticket")
                self.session = connection.session
        return took


def idle_connections(bench: Bench, wanted: int) -> None:
    """Connections that had an answer and are kept open, in a server of their own: what one weighs there."""
    for name in ("plain", "tls"):
        bench.say(f"{wanted} idle connections, {name}")
        with bench.roost(f"idle-{name}", ROOST_TEMPLATE_MEMORY_MB="0") as roost:
            context = ssl.create_default_context(cafile=roost.home / "state" / "tls" / "ca.pem") if name == "tls" else None
            server = roost.server_pid()
            with held(roost.port, 20, context):
                pass  # what the first few make is not theirs alone
            before = processes.pss_kb(server)
            with held(roost.port, wanted, context):
                goal = at_most(100) if name == "tls" else None
                bench.record(f"idle.{name}.each", "KB", [(processes.pss_kb(server) - before) / wanted], goal)


@contextlib.contextmanager
def held(port: int, count: int, context: ssl.SSLContext | None) -> Iterator[None]:
    """So many connections that were answered once."""
    with contextlib.ExitStack() as stack:
        if context is None:
            connections: list[socket.socket] = stack.enter_context(connected(port, count, HEALTH))
        else:
            connections = []
            for _ in range(count):
                raw = socket.create_connection(("127.0.0.1", port), timeout=10)
                connections.append(stack.enter_context(context.wrap_socket(raw, server_hostname="127.0.0.1")))
                connections[-1].sendall(HEALTH)
        for connection in connections:
            if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
                raise Broken("GET /health was not answered with 200")
        gc.collect()
        yield
