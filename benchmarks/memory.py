"""What stands still and still costs: an idle server, many runners, callers that wait, connections that say nothing."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks.cold import has_template
from benchmarks.harness import http, processes
from benchmarks.harness.bench import APPS, Bench
from benchmarks.harness.figures import at_most
from benchmarks.harness.programs import Broken, until
from benchmarks.harness.roosts import Roost

WEIGHTS_MB = 500
# Runners are asked for in steps, so that a machine on which each start takes a second stops early and says how many it had.
STEP = 20
RUNNERS_WITHIN_S = 90.0
_WITHOUT_TEMPLATES = {"ROOST_TEMPLATE_MEMORY_MB": "0"}


def run(bench: Bench) -> None:
    allow_many_files()
    idle(bench)
    many_runners(bench, 40 if bench.options.quick else 200)
    if bench.options.weights:
        shared_weights(bench, 20)
    waiting_callers(bench, 200 if bench.options.quick else 1000)
    idle_connections(bench, 1000 if bench.options.quick else 10_000)


def allow_many_files() -> None:
    """Each connection that we hold is a file of ours too."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def idle(bench: Bench) -> None:
    """`roost up` after its start, with nothing deployed."""
    seconds = 5 if bench.options.quick else 30
    bench.say(f"an idle server, {seconds} s")
    with bench.roost("idle", **_WITHOUT_TEMPLATES) as roost:
        time.sleep(2)  # what the start still does is not idling
        pids = roost.tree()
        before = sum(processes.cpu_s(pid) for pid in pids)
        time.sleep(seconds)
        used = sum(processes.cpu_s(pid) for pid in pids) - before
        bench.record("idle.pss", "MB", [processes.pss_mb(roost.tree())], at_most(150))
        bench.record("idle.server_pss", "MB", [processes.pss_mb([roost.server_pid()])])
        bench.record("idle.cpu", "%", [used / seconds * 100], at_most(0.5))


def many_runners(bench: Bench, wanted: int) -> None:
    """Runners of a small app, all idle. Their number is what was reached in the time; the memory of each is what counts."""
    bench.say(f"{wanted} runners of a small app, or as many as start in {RUNNERS_WITHIN_S:.0f} s")
    # So many would be refused otherwise: what they are promised is more than most machines have.
    with bench.roost("runners", ROOST_CPU_OVERCOMMIT="1000", ROOST_MEMORY_OVERCOMMIT="1000") as roost:
        path = roost.deploy(APPS / "small.py")
        bench.record("runners.template", "yes = 1", [has_template(roost, path)])
        living, seconds = grow(roost, path, wanted)
        pss = [processes.pss_mb([runner["pid"]]) for runner in living]
        bench.record("runners.started", "runners", [len(living)])
        bench.record("runners.start", "ms each", [seconds * 1000 / len(living)])
        bench.record("runners.pss", "MB each", pss, at_most(10))
        bench.record("runners.all_pss", "MB", [processes.pss_mb(roost.tree())])
        end_all(roost, path)


def shared_weights(bench: Bench, wanted: int) -> None:
    """Runners of an app whose preload() holds 500 MB: they are there once."""
    bench.say(f"{wanted} runners with {WEIGHTS_MB} MB each")
    with bench.roost("weights", ROOST_CPU_OVERCOMMIT="1000", ROOST_MEMORY_OVERCOMMIT="1000", ROOST_TEMPLATE_MEMORY_MB="4096") as roost:
        path = roost.deploy(APPS / "with_weights.py")
        bench.record("weights.template", "yes = 1", [has_template(roost, path)])
        living, seconds = grow(roost, path, wanted)
        if len(living) != wanted:
            raise Broken(f"only {len(living)} of {wanted} runners with weights have started in {RUNNERS_WITHIN_S:.0f} s")
        server = {roost.pid, roost.server_pid()}
        together = processes.pss_mb(pid for pid in roost.tree() if pid not in server)
        bench.record("weights.start", "ms each", [seconds * 1000 / wanted], at_most(100))
        bench.record("weights.all_pss", "MB", [together], at_most(WEIGHTS_MB + wanted * 25))
        end_all(roost, path)


def grow(roost: Roost, path: str, wanted: int) -> tuple[list[dict[str, Any]], float]:
    """Idle runners, and the seconds that starting them took; fewer than wanted when time is up."""
    begin = time.monotonic()
    for number in range(STEP, wanted + 1, STEP):
        roost.api("PATCH", f"/v1/apps{path}", {"min_concurrency": number})
        while ready(roost, path) < number:
            if time.monotonic() - begin > RUNNERS_WITHIN_S:
                return idle_runners(roost, path), time.monotonic() - begin
            time.sleep(0.02)
    took = time.monotonic() - begin
    return idle_runners(roost, path), took


def ready(roost: Roost, path: str) -> int:
    return len(idle_runners(roost, path))


def idle_runners(roost: Roost, path: str) -> list[dict[str, Any]]:
    return [runner for runner in roost.runners(path) if runner["state"] == "IDLE"]


def end_all(roost: Roost, path: str) -> None:
    roost.api("PATCH", f"/v1/apps{path}", {"min_concurrency": 0})
    roost.stop_runners(path, kill=True)


def waiting_callers(bench: Bench, callers: int) -> None:
    """Requests that wait for the only slot: their cost in the server."""
    bench.say(f"{callers} waiting callers")
    with bench.roost("waiting", **_WITHOUT_TEMPLATES) as roost:
        path = roost.deploy(APPS / "slots.py")
        roost.call(path, b'{"ms": 1}')
        server = roost.server_pid()
        before = processes.pss_kb(server)
        with connected(roost.port, callers + 1, request(roost, path, b'{"ms": 600000}')):
            until(f"{callers} callers wait", lambda: roost.api("GET", f"/v1/apps{path}")["waiting"] >= callers)
            bench.record("waiting.each", "KB", [(processes.pss_kb(server) - before) / callers])
        end_all(roost, path)


def idle_connections(bench: Bench, wanted: int) -> None:
    """Connections that had an answer and are kept open, then a storm of new ones; afterwards calls are answered as before (F-43)."""
    bench.say(f"{wanted} idle connections, then 1,000 new ones a second for 5 s")
    with bench.roost("connections", **_WITHOUT_TEMPLATES) as roost:
        server = roost.server_pid()
        health = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
        calm = [http.call(roost.port, "/health", method="GET").ms for _ in range(50)]
        before = processes.pss_kb(server)
        with connected(roost.port, wanted, health) as connections:
            for connection in connections:
                if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
                    raise Broken("GET /health was not answered with 200")
            bench.record("connections.each", "KB", [(processes.pss_kb(server) - before) / wanted], at_most(30))
            among = [http.call(roost.port, "/health", method="GET").ms for _ in range(50)]
            opened, refused = storm(roost.port, 5)
        after = [http.call(roost.port, "/health", method="GET").ms for _ in range(50)]
        bench.record("connections.answer_before", "ms", [median(calm)])
        bench.record("connections.answer_among", "ms", [median(among)])
        bench.record("connections.answer_after_storm", "ms", [median(after)])
        bench.record("connections.storm_opened", "1/s", [opened / 5])
        bench.record("connections.storm_refused", "connections", [refused], at_most(0))


def storm(port: int, seconds: int, each_s: int = 1000) -> tuple[int, int]:
    """Open and close so many connections a second; how many opened and how many were refused."""
    opened = refused = 0
    begin = time.monotonic()
    for number in range(seconds * each_s):
        time.sleep(max(0.0, begin + number / each_s - time.monotonic()))
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            opened += 1
        except OSError:
            refused += 1
        if time.monotonic() - begin > seconds:
            break
    return opened, refused


@contextlib.contextmanager
def connected(port: int, number: int, send: bytes) -> Iterator[list[socket.socket]]:
    """So many connections. Each says something at once: one that is silent from the start is soon closed."""
    with contextlib.ExitStack() as stack:
        connections: list[socket.socket] = []
        for _ in range(number):
            connections.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)))
            connections[-1].sendall(send)
        yield connections


def request(roost: Roost, path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: {roost.auth['authorization']}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
