"""Subscribes to jobs of about two seconds with the official client: `APP TRIES AT_ONCE`. Prints one line a job, the milliseconds beyond the job's own."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import fal_client

app, tries, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def overhead(number: int) -> float:
    # The client polls: where between two polls a job ends decides how much it waits, so jobs end everywhere between.
    ms = 2000 + number * 37 % 100
    begin = time.perf_counter()
    if fal_client.subscribe(app, {"ms": ms}) != {"waited": ms}:
        sys.exit("a job had another's result")
    return (time.perf_counter() - begin) * 1000 - ms


fal_client.run(app, {"ms": 0})
with ThreadPoolExecutor(at_once) as pool:
    for ms in pool.map(overhead, range(tries)):
        print(f"{ms:.1f}")
