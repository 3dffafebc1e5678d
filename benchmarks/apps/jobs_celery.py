"""The same job under Celery: broker and results in Redis. `python jobs_celery.py SECONDS` puts jobs in and waits for the last."""

import os
import sys
import time

from celery import Celery

URL = os.environ["JOBS_REDIS"]
app = Celery("jobs_celery", broker=URL, backend=URL)
app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=64)


@app.task
def work(n: int) -> dict:
    return {"n": n}


def main(seconds: float) -> None:
    work.delay(0).get(timeout=60)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        last = work.delay(count)
        count += 1
    last.get(timeout=600)
    print(count, time.perf_counter() - begin)


if __name__ == "__main__":
    main(float(sys.argv[1]))
