"""How many durable writes a second the store does, alone and together, and how many requests go through it from submit to result, beside what
one sync costs on this disk.

The numbers are the disk's more than ours: TMPDIR says on which one.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from benchmarks.harness.bench import Bench
from benchmarks.harness.figures import percentile
from benchmarks.harness.tables import number
from roost.core.requests import Claim, Content, Final, Input, NewRequest, Output, Priority, Request, RequestState, RetryRules
from roost.kit.clock import SystemClock
from roost.store import Store
from roost.wire import ids

CALLERS = (1, 16, 64, 512)
_JSON = (b"content-type", b"application/json")
INPUT = Input("POST", b"/", b"", (_JSON, (b"user-agent", b"python-httpx/0.28.1"), (b"accept", b"*/*")), Content(40, b"x" * 40))
OUTPUT = Output(200, (_JSON, (b"content-length", b"40")), Content(40, b"y" * 40))


def run(bench: Bench) -> None:
    bench.record("sync", "ms", sync_ms(bench.folder))
    asyncio.run(_store(bench, 0.3 if bench.options.quick else 2.0))


def sync_ms(folder: Path, samples: int = 200) -> list[float]:
    """Appending 4 KB to a file and syncing it."""
    took: list[float] = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(samples):
            file.write(b"x" * 4096)
            begin = time.perf_counter()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - begin) * 1000)
    return took


async def _store(bench: Bench, seconds: float) -> None:
    store = await Store.open(bench.folder / "roost.db", SystemClock())
    try:
        rows = [await writes(bench, store, callers, seconds) for callers in CALLERS]
        bench.record("reads_1", "reads/s", [await reads(store, seconds)])
        queued = [await requests(bench, store, callers, seconds) for callers in CALLERS]
        bench.record("forgotten", "requests/s", [await forget(store)])
    finally:
        await store.close()
    bench.show(["", "writes/s", "writes a commit", "p50 ms", "p99 ms"], rows)
    bench.show(["submit, claim, finish", "requests/s", "writes a commit", "CPU µs each", "p99 ms"], queued)


async def writes(bench: Bench, store: Store, callers: int, seconds: float) -> list[str]:
    """So many callers, each with one write at a time."""
    took: list[float] = []
    begin, before = time.perf_counter(), store.stats()

    async def caller(n: int) -> None:
        while time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            await store.meta.set(f"caller-{n}", str(start))
            took.append((time.perf_counter() - start) * 1000)

    await asyncio.gather(*(caller(n) for n in range(callers)))
    elapsed = time.perf_counter() - begin
    commits = store.stats().commits - before.commits
    bench.record(f"writes_{callers}", "writes/s", [len(took) / elapsed])
    bench.record(f"writes_{callers}.p99", "ms", [percentile(took, 99)])
    cells = (len(took) / elapsed, len(took) / commits, percentile(took, 50), percentile(took, 99))
    return [f"{callers} callers", *map(number, cells)]


async def requests(bench: Bench, store: Store, callers: int, seconds: float) -> list[str]:
    """So many callers, each with one request at a time: accepted, claimed and finished, each step on disk before the next."""
    took: list[float] = []
    begin, cpu, before = time.perf_counter(), time.process_time(), store.stats()

    async def caller() -> None:
        while time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            await _carry(store)
            took.append((time.perf_counter() - start) * 1000)

    await asyncio.gather(*(caller() for _ in range(callers)))
    elapsed, cpu, after = time.perf_counter() - begin, time.process_time() - cpu, store.stats()
    bench.record(f"requests_{callers}", "requests/s", [len(took) / elapsed])
    bench.record(f"requests_{callers}.cpu", "µs", [cpu / len(took) * 1e6])
    together = (after.writes - before.writes) / (after.commits - before.commits)
    cells = (len(took) / elapsed, together, cpu / len(took) * 1e6, percentile(took, 99))
    return [f"{callers} callers", *map(number, cells)]


async def _carry(store: Store) -> None:
    name = ids.request_id()
    asked = Request(
        *(0, name, "ada", "painter", "main", "ada", RequestState.IN_QUEUE, Priority.NORMAL, 0, 0, (), 1_000),
        *(None, None, "", RetryRules(), True, "/", "POST"),
        gateway_request_id=name,
    )
    await store.requests.submit(NewRequest(asked, INPUT), 1_000)
    await store.requests.claim(name, 0, Claim(ids.request_id(), "runner", 12_000), 2_000)
    await store.requests.finish(name, 1, Final(200, output=OUTPUT, expires_ms=3_000, outcome="the app answered 200"), 3_000)


async def forget(store: Store) -> float:
    """Retention, in the portions that upkeep takes."""
    begin, done = time.perf_counter(), 0
    while deleted := (await store.requests.delete_expired(3_000, 200)).ids:
        done += len(deleted)
    return done / (time.perf_counter() - begin)


async def reads(store: Store, seconds: float) -> float:
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        await store.meta.get("caller-0")
        done += 1
    return done / (time.perf_counter() - begin)
