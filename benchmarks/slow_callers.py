"""What slow callers cost the others (F-42): heads and bodies that come byte by byte, streams that hardly anyone reads."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

from benchmarks.harness import wrk
from benchmarks.harness.bench import APPS, Bench
from benchmarks.harness.figures import at_most, interleaved, ratios
from benchmarks.harness.programs import Broken, until
from benchmarks.harness.roosts import Roost
from benchmarks.harness.tables import number, spread
from benchmarks.harness.wrk import Load

SLOW = 200
CALLERS = 16
# What apps/streams.py would send to somebody who reads.
WHOLE_STREAM = 1000 * 64 * 1024


def run(bench: Bench) -> None:
    rounds, seconds = (1, 2) if bench.options.quick else (5, 3)
    with bench.roost("roost") as roost:
        path = roost.deploy(APPS / "streams.py")
        post = roost.post(path, '{"prompt": "hello"}')
        wrk.press(post, CALLERS, 1)
        bench.say(f"{rounds} rounds of {CALLERS} callers alone, beside {SLOW} slow ones, and while those arrive")

        waits: list[float] = []

        def alone() -> Load:
            # The end of so many streams is work too, and it is not theirs who come after it.
            until("the slow callers' calls have ended", lambda: roost.api("GET", f"/v1/apps{path}")["in_flight"] == 0)
            time.sleep(1)
            return wrk.press(post, CALLERS, seconds)

        def beside() -> Load:
            with slow_callers(roost, path):
                # Streams begin by filling the buffers on their way, as fast as anyone reads. Slow is what comes then.
                waits.append(stalled(roost, path))
                return wrk.press(post, CALLERS, seconds)

        def arriving() -> Load:
            with slow_callers(roost, path):
                return wrk.press(post, CALLERS, seconds)

        measured = interleaved({"alone": alone, "beside": beside, "arriving": arriving}, rounds)
        taken = sent(roost, path)
    if max(taken) >= WHOLE_STREAM:
        raise Broken("a stream that nobody read was sent to its end: the handler was not held back")
    rows: list[list[str]] = []
    for name, loads in measured.items():
        p99 = bench.record(f"{name}.p99", "ms", [load.p99_ms for load in loads])
        calls = bench.record(f"{name}.calls_s", "calls/s", [load.calls_s for load in loads])
        rows.append([name, number(p99.median), spread(p99.samples), number(calls.median), spread(calls.samples)])
    p99s = {name: [load.p99_ms for load in loads] for name, loads in measured.items()}
    bench.record("p99", "x alone", ratios(p99s["beside"], p99s["alone"]), at_most(1.2))
    # No goal: filling the buffers of so many streams is some 300 MB of honest work. It is shown so that nobody takes the line above for it.
    bench.record("p99_arriving", "x alone", ratios(p99s["arriving"], p99s["alone"]))
    bench.record("stalled_after", "s", waits)
    ahead = bench.record("stream_ahead", "MB", [size / 1024**2 for size in taken])
    bench.show([f"{CALLERS} callers", "p99 ms", "min-max", "calls/s", "min-max"], rows)
    bench.show(["a stream that nobody reads", "MB sent", "min-max"], [["", number(ahead.median), spread(ahead.samples)]])


def sent(roost: Roost, path: str) -> list[int]:
    """Bytes that the handler has got rid of, by stream."""
    return json.loads(roost.call(f"{path}/taken", b"").body)["bytes"]


def stalled(roost: Roost, path: str) -> float:
    """Wait until no stream moves any more; answers the seconds that this took. Raises Broken when they go on and on."""
    began = time.monotonic()
    before: list[int] = []

    def still() -> bool:
        nonlocal before
        last, before = before, sent(roost, path)
        return last == before

    # Between two looks the slow readers take a kilobyte each, far less than a chunk.
    until("streams that nobody reads stand still", still, every_s=0.5)
    return time.monotonic() - began


@contextlib.contextmanager
def slow_callers(roost: Roost, path: str) -> Iterator[None]:
    """A third sends its head at a byte a second, a third its body, a third reads a stream at a kilobyte a second."""
    kinds = itertools.cycle((slow_head, slow_body, slow_reader))
    ended = threading.Event()
    with contextlib.ExitStack() as stack:
        steps = [next(kinds)(stack.enter_context(_connection(roost.port)), roost, path) for _ in range(SLOW)]
        thread = threading.Thread(target=_keep_going, args=(steps, ended))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def slow_head(connection: socket.socket, roost: Roost, path: str) -> Callable[[], object]:
    connection.sendall(f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ".encode())
    return lambda: connection.send(b"x", socket.MSG_DONTWAIT)


def slow_body(connection: socket.socket, roost: Roost, path: str) -> Callable[[], object]:
    connection.sendall(_head(roost, path, 100_000) + b'{"prompt": "')
    return lambda: connection.send(b"x", socket.MSG_DONTWAIT)


def slow_reader(connection: socket.socket, roost: Roost, path: str) -> Callable[[], object]:
    connection.sendall(_head(roost, f"{path}/stream", 2) + b"{}")
    return lambda: connection.recv(1024, socket.MSG_DONTWAIT)


def _head(roost: Roost, path: str, size: int) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: {roost.auth['authorization']}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {size}\r\n\r\n".encode()


def _connection(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    # Else the kernel reads ahead for us, megabytes of it.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return connection


def _keep_going(steps: list[Callable[[], object]], ended: threading.Event) -> None:
    while not ended.wait(1):
        for step in steps:
            # Nothing to read yet, or the server has had enough of this one.
            with contextlib.suppress(OSError):
                step()
