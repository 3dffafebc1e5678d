"""The same job under dramatiq: broker and results in Redis. `python jobs_dramatiq.py SECONDS` puts jobs in and waits for the last."""

import os
import sys
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend

URL = os.environ["JOBS_REDIS"]
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def work(n: int) -> dict:
    return {"n": n}


def main(seconds: float) -> None:
    work.send(0).get_result(block=True, timeout=60_000)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        last = work.send(count)
        count += 1
    last.get_result(block=True, timeout=600_000)
    print(count, time.perf_counter() - begin)


if __name__ == "__main__":
    main(float(sys.argv[1]))
