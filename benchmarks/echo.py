"""Echo at 1, 16 and 64 callers: Roost with one runner beside the same handler under uvicorn alone."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.harness import http, processes, wrk
from benchmarks.harness.bench import APPS, Bench
from benchmarks.harness.figures import Goal, at_least, at_most, interleaved, ratios
from benchmarks.harness.programs import Broken, free_port, listening
from benchmarks.harness.roosts import Roost
from benchmarks.harness.tables import number, spread
from benchmarks.harness.wrk import Load, Post

BODY = json.dumps({"prompt": "a small house by the sea, in the evening", "steps": 8, "seed": 4711})
CALLERS = (1, 16, 64)
# Of calls a second over bare uvicorn's (the promise).
GOALS: dict[str, Goal] = {"fastapi": at_least(1.2), "direct": at_least(2)}


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who answers the call. `processes`: who works for it, by part."""

    post: Post
    processes: dict[str, int]


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of the load, and what each part's process took for a call."""

    load: Load
    cpu_us: dict[str, float]


def run(bench: Bench) -> None:
    with contextlib.ExitStack() as stack:
        bare = stack.enter_context(bare_uvicorn(bench.folder))
        contenders = {"bare": bare}
        if shutil.which("nginx"):
            contenders["nginx"] = stack.enter_context(behind_nginx(bare, bench.folder))
        contenders["fastapi"] = echo_on(stack.enter_context(bench.roost("fastapi", ROOST_DIRECT="0")))
        contenders["direct"] = echo_on(stack.enter_context(bench.roost("direct")))
        # The gateway remembers heads that come again; wrk's do, those of callers with tracing do not.
        contenders["traced"] = replace(contenders["direct"], post=replace(contenders["direct"].post, traced=True))
        must_be_equal({name: contender.post for name, contender in contenders.items()})
        rounds, seconds = (2, 1) if bench.options.quick else (5, 2)
        measured: dict[int, dict[str, list[Turn]]] = {}
        for contender in contenders.values():
            wrk.press(contender.post, 16, 1)  # the first calls pay for caches that the others find
        for callers in CALLERS:
            bench.say(f"{callers} callers: {rounds} rounds of {', '.join(contenders)}")
            turns: dict[str, Callable[[], Turn]] = {name: partial(take_turn, one, callers, seconds) for name, one in contenders.items()}
            measured[callers] = interleaved(turns, rounds)
    for callers, by_contender in measured.items():
        record(bench, callers, by_contender)
    show(bench, measured)


@contextlib.contextmanager
def bare_uvicorn(folder: Path) -> Iterator[Contender]:
    """One worker, uvloop, httptools: as fast as uvicorn is."""
    port = free_port()
    words = [sys.executable, "-m", "uvicorn", "--app-dir", str(APPS), "echo_bare:app", "--port", str(port), "--workers", "1"]
    words += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    with listening(words, port, folder / "bare.log") as process:
        yield Contender(Post(f"http://127.0.0.1:{port}/", BODY), {"server": process.pid})


@contextlib.contextmanager
def behind_nginx(bare: Contender, folder: Path) -> Iterator[Contender]:
    """What a proxy in C makes of the same: what putting anything before an app costs at least."""
    port, home = free_port(), folder / "nginx"
    home.mkdir()
    upstream = bare.post.url.removeprefix("http://").rstrip("/")
    Path(home, "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  keepalive_requests 1000000000;
  upstream app {{ server {upstream}; keepalive 128; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
}}
""")
    with listening(
        ["nginx", "-p", str(home), "-e", str(home / "error.log"), "-c", str(home / "nginx.conf")], port, folder / "nginx.log"
    ) as process:
        worker = next(pid for pid in processes.tree(process.pid) if pid != process.pid)
        yield Contender(Post(f"http://127.0.0.1:{port}/", BODY), {"proxy": worker, **bare.processes})


def echo_on(roost: Roost) -> Contender:
    path = roost.deploy(APPS / "echo.py")
    runners = roost.runners(path)
    if len(runners) != 1:
        raise Broken(f"{path} has {len(runners)} runners instead of one")
    return Contender(roost.post(path, BODY), {"gateway": roost.server_pid(), "runner": runners[0]["pid"]})


def must_be_equal(posts: dict[str, Post]) -> None:
    """The same bytes in every answer, or the comparison compares nothing. Raises Broken."""
    bodies: dict[str, bytes] = {}
    for name, post in posts.items():
        address, _, path = post.url.removeprefix("http://").partition("/")
        answer = http.call(int(address.rpartition(":")[2]), f"/{path}", post.body.encode(), post.headers)
        if answer.status != 200:
            raise Broken(f"{name} answers {answer.status}: {answer.body[:500]!r}")
        bodies[name] = answer.body
    if len(set(bodies.values())) != 1:
        raise Broken(f"the answers differ: {bodies}")


def take_turn(contender: Contender, callers: int, seconds: int) -> Turn:
    before = {part: processes.cpu_s(pid) for part, pid in contender.processes.items()}
    load = wrk.press(contender.post, callers, seconds)
    return Turn(load, {part: (processes.cpu_s(pid) - before[part]) * 1e6 / load.calls for part, pid in contender.processes.items()})


def record(bench: Bench, callers: int, measured: dict[str, list[Turn]]) -> None:
    bare = measured["bare"]
    for name, turns in measured.items():
        bench.record(f"{callers}.{name}.calls_s", "calls/s", [turn.load.calls_s for turn in turns])
        bench.record(f"{callers}.{name}.p50", "ms", [turn.load.p50_ms for turn in turns])
        bench.record(f"{callers}.{name}.p99", "ms", [turn.load.p99_ms for turn in turns])
        for part in turns[0].cpu_us:
            bench.record(f"{callers}.{name}.{part}_cpu", "µs/call", [turn.cpu_us[part] for turn in turns])
        if name != "bare":
            over = ratios([turn.load.calls_s for turn in turns], [turn.load.calls_s for turn in bare])
            bench.record(f"{callers}.{name}.over_bare", "x bare", over, GOALS.get(name) if callers > 1 else None)
        if name != "bare" and callers == 1:
            slower = [turn.load.p50_ms - alone.load.p50_ms for turn, alone in zip(turns, bare, strict=True)]
            bench.record(f"1.{name}.p50_over_bare", "ms", slower, at_most(0.15) if name in GOALS else None)


def show(bench: Bench, measured: dict[int, dict[str, list[Turn]]]) -> None:
    over = {figure.name: figure.median for figure in bench.figures}
    rows: list[list[str]] = []
    for callers, by_contender in measured.items():
        for name, turns in by_contender.items():
            speeds = [turn.load.calls_s for turn in turns]
            cpu = {part: median(turn.cpu_us[part] for turn in turns) for part in turns[0].cpu_us}
            rows.append(
                [
                    f"{callers} callers, {name}",
                    number(median(speeds)),
                    spread(speeds),
                    number(over.get(f"{bench.subject}.{callers}.{name}.over_bare", 1)),
                    number(median(turn.load.p50_ms for turn in turns)),
                    number(median(turn.load.p99_ms for turn in turns)),
                    ", ".join(f"{part} {number(us)}" for part, us in cpu.items()),
                ]
            )
    bench.show(["", "calls/s", "min-max", "x bare", "p50 ms", "p99 ms", "CPU µs a call"], rows)
