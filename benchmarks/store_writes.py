"""How many durable writes a second the store does, alone and together, beside what one sync costs on this disk.

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
from roost.kit.clock import SystemClock
from roost.store import Store

CALLERS = (1, 16, 128, 512)


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
    finally:
        await store.close()
    bench.show(["", "writes/s", "writes a commit", "p50 ms", "p99 ms"], rows)


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


async def reads(store: Store, seconds: float) -> float:
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        await store.meta.get("caller-0")
        done += 1
    return done / (time.perf_counter() - begin)
