"""The durable queue: what a submit, a result and a poll cost, how many jobs a second go through, and what a long queue changes.

Each submit is answered after a sync to disk, and so is each result before anybody sees it; the disk's own sync is printed beside.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median

import apsw

from benchmarks.harness import processes, wrk
from benchmarks.harness.bench import APPS, Bench
from benchmarks.harness.figures import Goal, at_least, at_most, interleaved, percentile, ratios
from benchmarks.harness.programs import Broken, free_port, listening, program, until
from benchmarks.harness.roosts import Roost
from benchmarks.harness.tables import number, spread
from benchmarks.harness.wrk import Gets, Post
from benchmarks.peers import Peer, environment
from benchmarks.store_writes import sync_ms

SUBMITTERS = 64
# How many times as fast as theirs ours wants to be. "Redis" is not durable for each job, as its users run it.
PEERS = {
    "celery": (Peer("celery[redis]==5.*", ("celery",), 2.5), ("celery", "-A", "jobs_celery", "worker", "-c", "1", "-l", "WARNING")),
    "dramatiq": (Peer("dramatiq[redis]==1.*", ("dramatiq",), 1), ("dramatiq", "jobs_dramatiq", "--processes", "1", "--threads", "8")),
}


def run(bench: Bench) -> None:
    bench.record("sync", "ms", sync_ms(bench.folder))
    with bench.roost("roost") as roost:
        jobs, held = roost.deploy(APPS / "jobs.py"), roost.deploy(APPS / "held.py")
        roost.call(jobs)
        idle(bench, roost, jobs)
        submits(bench, roost, held)
        throughput(bench, roost, jobs)
        polls(bench, roost, held)
        long_queue(bench, roost, held)
    if bench.options.millions:
        beside_millions(bench)


# --- one caller, an idle server -------------------------------------------------------------------------------------------


def idle(bench: Bench, roost: Roost, jobs: str) -> None:
    """From the first byte of the submit to the last of the result, which is asked for each half a millisecond."""
    tries = 50 if bench.options.quick else 300
    bench.say(f"{tries} jobs, one after another")
    connection = http.client.HTTPConnection("127.0.0.1", roost.port, timeout=30)
    accepted: list[float] = []
    done: list[float] = []
    for n in range(tries):
        begin = time.perf_counter()
        submitted = ask(connection, roost, "POST", f"/_queue{jobs}", b'{"n": %d}' % n)
        accepted.append((time.perf_counter() - begin) * 1000)
        path = f"/_queue{jobs}/requests/{json.loads(submitted)['request_id']}"
        while not finished(connection, roost, f"{path}/status"):
            time.sleep(0.0005)
        if json.loads(ask(connection, roost, "GET", path)) != {"n": n}:
            raise Broken("a job had another's result")
        done.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.01)
    connection.close()
    bench.record("idle.submit_p50", "ms", [percentile(accepted, 50)])
    bench.record("idle.result_p50", "ms", [percentile(done, 50)], at_most(5))
    bench.record("idle.result_p99", "ms", [percentile(done, 99)])


def ask(
    connection: http.client.HTTPConnection,
    roost: Roost,
    method: str,
    path: str,
    body: bytes | None = None,
    fields: Mapping[str, str] | None = None,
) -> bytes:
    connection.request(method, path, body=body, headers={"content-type": "application/json", **roost.auth, **(fields or {})})
    response = connection.getresponse()
    content = response.read()
    if response.status not in (200, 202):
        raise Broken(f"{method} {path}: {response.status} {content.decode(errors='replace')[:500]}")
    return content


def finished(connection: http.client.HTTPConnection, roost: Roost, path: str) -> bool:
    return json.loads(ask(connection, roost, "GET", path))["status"] == "COMPLETED"


# --- many submitters ------------------------------------------------------------------------------------------------------


def submits(bench: Bench, roost: Roost, held: str) -> None:
    """Nothing of it runs: the app's only slot is taken. The load generator shares the machine."""
    rounds, seconds = (1, 2) if bench.options.quick else (5, 4)
    post = roost.post(f"/_queue{held}", '{"n": 0}')
    with slot_taken(roost, held):
        wrk.press(post, SUBMITTERS, 1)
        loads = [wrk.press(post, SUBMITTERS, seconds) for _ in range(rounds)]
        flush(roost, held)
    bench.record("submits_s", "submits/s", [load.calls_s for load in loads], at_least(3000))
    bench.record("submits.p50", "ms", [load.p50_ms for load in loads])
    bench.record("submits.p99", "ms", [load.p99_ms for load in loads], at_most(40))


@contextlib.contextmanager
def slot_taken(roost: Roost, held: str, seconds: int = 600) -> Iterator[None]:
    connection = http.client.HTTPConnection("127.0.0.1", roost.port, timeout=30)
    # Without a retry: killed is killed.
    submitted = json.loads(ask(connection, roost, "POST", f"/_queue{held}", b'{"n": %d}' % seconds, {"x-fal-no-retry": "1"}))
    path = f"/_queue{held}/requests/{submitted['request_id']}"
    until("the slot is taken", lambda: json.loads(ask(connection, roost, "GET", f"{path}/status"))["status"] == "IN_PROGRESS")
    try:
        yield
    finally:
        connection.close()
        roost.stop_runners(held, kill=True)


def waiting(roost: Roost, app: str) -> int:
    return int(roost.api("GET", f"/v1/serverless/apps{app}/queue")["queue_size"])


def flush(roost: Roost, app: str) -> None:
    def emptied() -> bool:
        # Again and again: what wrk had sent when its time was over is accepted after it has gone.
        roost.api("DELETE", f"/applications{app}/queue")
        return waiting(roost, app) == 0

    until("the queue is empty", emptied)


# --- submit to completed --------------------------------------------------------------------------------------------------


def throughput(bench: Bench, roost: Roost, jobs: str) -> None:
    """So many submitters for some seconds; the time counts until the last job is done. One runner, 64 at once."""
    rounds, seconds = (1, 2) if bench.options.quick else (5, 4)
    with contextlib.ExitStack() as stack:
        turns = {"roost": partial(roost_jobs_s, roost, jobs, seconds)}
        peers = [name for name in PEERS if name in bench.options.peers]
        if peers:
            url = stack.enter_context(redis(bench))
            for name in peers:
                turns[name] = partial(peer_jobs_s, stack.enter_context(working(bench, name, url)), name, seconds)
        for turn in turns.values():
            turn()
        bench.say(f"{rounds} rounds of {', '.join(turns)}")
        speeds = interleaved(turns, rounds)
    rows: list[list[str]] = []
    for name, samples in speeds.items():
        goal = at_least(2500) if name == "roost" else None
        figure = bench.record(f"jobs.{name}.jobs_s", "jobs/s", samples, goal)
        over = ""
        if name != "roost":
            times = bench.record(f"jobs.roost_over_{name}", f"x {name}", ratios(speeds["roost"], samples), at_least(PEERS[name][0].faster))
            over = number(times.median)
        rows.append([f"{name}, submit to completed", number(figure.median), spread(samples), over])
    bench.show(["", "jobs/s", "min-max", "Roost is times faster"], rows)


def roost_jobs_s(roost: Roost, jobs: str, seconds: int) -> float:
    begin = time.perf_counter()
    load = wrk.press(roost.post(f"/_queue{jobs}", '{"n": 1}'), SUBMITTERS, seconds)
    until("all jobs are done", lambda: not unfinished(roost, jobs), every_s=0.01, patience_s=120)
    return load.calls / (time.perf_counter() - begin)


def unfinished(roost: Roost, jobs: str) -> bool:
    return bool(waiting(roost, jobs) or roost.api("GET", f"/v1/apps{jobs}")["in_flight"])


def peer_jobs_s(env: dict[str, str], name: str, seconds: int) -> float:
    words = [str(Path(env["JOBS_PYTHON"])), f"jobs_{name}.py", str(seconds)]
    done = subprocess.run(words, env=env, cwd=APPS, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise Broken(f"{name}: {done.stderr[-2000:]}")
    count, took = done.stdout.split()[-2:]
    return int(count) / float(took)


@contextlib.contextmanager
def redis(bench: Bench) -> Iterator[str]:
    port = free_port()
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(bench.folder)]
    try:
        with listening(words, port, bench.folder / "redis.log"):
            yield f"redis://127.0.0.1:{port}/0"
    except FileNotFoundError as error:
        raise Broken("redis-server is not installed. Install it: sudo apt-get install redis-server") from error


@contextlib.contextmanager
def working(bench: Bench, name: str, url: str) -> Iterator[dict[str, str]]:
    peer, command = PEERS[name]
    bin_folder = environment(bench, name, peer) / "bin"
    env = {**os.environ, "JOBS_REDIS": url.replace("/0", f"/{list(PEERS).index(name)}"), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    env |= {"JOBS_PYTHON": str(bin_folder / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    with program([str(bin_folder / command[0]), *command[1:]], bench.folder / f"{name}.log", env, cwd=APPS):
        yield env


# --- polls ----------------------------------------------------------------------------------------------------------------


def polls(bench: Bench, roost: Roost, held: str) -> None:
    """The status of 1,000 waiting requests, asked for as fast as one connection pool can: what 10,000 polls a second would cost."""
    seconds = 2 if bench.options.quick else 5
    server = roost.server_pid()
    with slot_taken(roost, held):
        connection = http.client.HTTPConnection("127.0.0.1", roost.port, timeout=30)
        ids = [json.loads(ask(connection, roost, "POST", f"/_queue{held}", b'{"n": 0}'))["request_id"] for _ in range(1000)]
        paths = tuple(f"/_queue{held}/requests/{one}/status" for one in ids)
        gets = Gets(f"http://127.0.0.1:{roost.port}", paths, roost.auth)
        wrk.press(gets, 16, 1)
        before = processes.cpu_s(server)
        load = wrk.press(gets, 16, seconds)
        cost_us = (processes.cpu_s(server) - before) / load.calls * 1e6
        connection.close()
        flush(roost, held)
    bench.record("polls_s", "polls/s", [load.calls_s])
    bench.record("polls.cpu", "us/poll", [cost_us])
    bench.record("polls.cores_at_10000_s", "cores", [cost_us / 100], at_most(1))


# --- a long queue and a long history --------------------------------------------------------------------------------------


def long_queue(bench: Bench, roost: Roost, held: str) -> None:
    """One submitter and one poller, with nothing queued and beside a long queue."""
    many = 5_000 if bench.options.quick else 100_000
    with slot_taken(roost, held):
        alone = touch(bench, roost, held)
        bench.say(f"queueing {many:,}")
        post: Post = roost.post(f"/_queue{held}", '{"n": 0}')
        while (queued := waiting(roost, held)) < many:
            wrk.press(post, SUBMITTERS, max(1, min(10, (many - queued) // 4000)))
        beside = touch(bench, roost, held)
        record_beside(bench, f"beside_{many}_queued", alone, beside)
        flush(roost, held)


def touch(bench: Bench, roost: Roost, app: str) -> tuple[float, float]:
    """p50 of a submit and of a status, in milliseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", roost.port, timeout=30)
    submit: list[float] = []
    status: list[float] = []
    for _ in range(100 if bench.options.quick else 400):
        begin = time.perf_counter()
        made = json.loads(ask(connection, roost, "POST", f"/_queue{app}", b'{"n": 0}'))
        between = time.perf_counter()
        ask(connection, roost, "GET", f"/_queue{app}/requests/{made['request_id']}/status")
        submit.append((between - begin) * 1000)
        status.append((time.perf_counter() - between) * 1000)
    connection.close()
    return median(submit), median(status)


def record_beside(bench: Bench, name: str, alone: tuple[float, float], beside: tuple[float, float]) -> None:
    goal: Goal = at_most(1.2)
    for what, before, now in zip(("submit", "status"), alone, beside, strict=True):
        bench.record(f"{name}.{what}", "ms", [now])
        bench.record(f"{name}.{what}_ratio", "x", [now / before], goal)


def beside_millions(bench: Bench) -> None:
    """The same two with an empty history and with five million finished requests, made from one that really ran."""
    many = 200_000 if bench.options.quick else 5_000_000
    name = "history"
    with bench.roost(name) as roost:
        held = roost.deploy(APPS / "held.py")
        roost.call(held)
        connection = http.client.HTTPConnection("127.0.0.1", roost.port, timeout=30)
        path = f"/_queue{held}/requests/{json.loads(ask(connection, roost, 'POST', f'/_queue{held}', b'{}'))['request_id']}"
        until("it ran", lambda: finished(connection, roost, f"{path}/status"))
        connection.close()
        with slot_taken(roost, held):
            alone = touch(bench, roost, held)
            flush(roost, held)
    bench.say(f"writing {many:,} finished requests")
    multiply(bench.folder / name / "state" / "roost.db", many)
    with bench.roost_again(name) as roost, slot_taken(roost, held):
        beside = touch(bench, roost, held)
        flush(roost, held)
    record_beside(bench, f"beside_{many}_finished", alone, beside)


TABLES = {"requests": "seq", "inputs": "request", "outputs": "request", "attempts": "request", "request_events": "request"}


def multiply(database: Path, many: int) -> None:
    """Copy the first finished request so many times, with new ids."""
    connection = apsw.Connection(str(database))
    connection.execute("PRAGMA synchronous = OFF")
    first = connection.execute("SELECT min(seq) FROM requests WHERE state = 'COMPLETED'").get
    top = connection.execute("SELECT max(seq) FROM requests").get
    for begin in range(top, top + many, 250_000):
        with connection:
            for table, key in TABLES.items():
                copy(connection, table, key, first, begin + 1, min(begin + 250_000, top + many))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def copy(connection: apsw.Connection, table: str, key: str, of: int, first: int, last: int) -> None:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    values = ", ".join({key: "n", "id": "lower(hex(randomblob(16)))"}.get(column, f"one.{column}") for column in columns)
    connection.execute(
        f"WITH RECURSIVE numbers (n) AS (VALUES ({first}) UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})"
        f" INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM numbers, {table} AS one WHERE one.{key} = {of}"
    )
