"""How many durable writes a second the store does, alone and together, beside what one sync costs on this disk.

    python benchmarks/store_writes.py [folder] [seconds]

Run it on the disk that will hold ROOST_HOME: the numbers are the disk's more than ours.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from roost.kit.clock import SystemClock
from roost.store import Store


def sync_ms(folder: Path, samples: int = 200) -> float:
    """The median of appending 4 KB to a file and syncing it."""
    took: list[float] = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(samples):
            file.write(b"x" * 4096)
            begin = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - begin)
    return sorted(took)[samples // 2] * 1000


async def writes(store: Store, callers: int, seconds: float) -> str:
    """So many callers, each with one write at a time."""
    took: list[float] = []
    begin, before = time.perf_counter(), store.stats()

    async def caller(n: int) -> None:
        while time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            await store.meta.set(f"caller-{n}", str(start))
            took.append(time.perf_counter() - start)

    await asyncio.gather(*(caller(n) for n in range(callers)))
    elapsed = time.perf_counter() - begin
    commits = store.stats().commits - before.commits
    took.sort()
    p50, p99 = took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000
    return f"{callers:>7} {len(took) / elapsed:>9,.0f} {len(took) / commits:>13.1f} {p50:>8.2f} {p99:>8.2f}"


async def reads(store: Store, seconds: float) -> float:
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        await store.meta.get("caller-0")
        done += 1
    return done / (time.perf_counter() - begin)


async def main(folder: Path, seconds: float) -> None:
    print(f"one sync of this disk: p50 {sync_ms(folder):.2f} ms")
    print(f"{'callers':>7} {'writes/s':>9} {'writes/commit':>13} {'p50 ms':>8} {'p99 ms':>8}")
    store = await Store.open(folder / "roost.db", SystemClock())
    for callers in (1, 16, 128, 512):
        print(await writes(store, callers, seconds))
    print(f"reads, one caller: {await reads(store, seconds):,.0f}/s")
    await store.close()


if __name__ == "__main__":
    where = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=where) as made:
        asyncio.run(main(Path(made), float(sys.argv[2]) if len(sys.argv) > 2 else 2.0))
