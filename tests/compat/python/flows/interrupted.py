"""What a client does when connections break and servers go. Done when they are named only: a test breaks things meanwhile."""

from __future__ import annotations

import threading
import time

import fal_client
from fal_client import Completed
from world import PARROT, RECORD, calls, mark

PADDING = "x" * 200_000


def a_submit_that_was_cut_off_is_sent_again():
    me = mark()
    assert fal_client.subscribe(PARROT, {"mark": me, "padding": PADDING}, path="/work")["mark"] == me
    assert calls(me) == 1


def a_submit_whose_answer_was_lost_is_sent_again():
    me = mark()
    handle = fal_client.submit(PARROT, {"mark": me, "padding": PADDING}, path="/work")
    assert handle.get()["mark"] == me
    # It sends no idempotency key: the queue cannot know that the second is the first.
    assert calls(me) == 2


def subscribers_outlive_the_server():
    """Five that subscribe again and again, until the file `stop` is there. Every request has its result, and each ran."""
    done: list[str] = []
    failed: list[Exception] = []

    def subscribe_again_and_again(client: fal_client.SyncClient) -> None:
        while not (RECORD / "stop").exists():
            me, updates = mark(), []
            try:
                got = client.subscribe(
                    PARROT, {"mark": me, "ms": 300, "steps": 2}, path="/work", with_logs=True, on_queue_update=updates.append
                )
                assert got["mark"] == me and calls(me) >= 1 and isinstance(updates[-1], Completed)
                done.append(me)
            except Exception as error:
                failed.append(error)
            (RECORD / "done").write_text(str(len(done)))

    threads = [threading.Thread(target=subscribe_again_and_again, args=[fal_client.SyncClient()]) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert len(set(done)) == len(done) >= 5


def direct_calls_outlive_a_planned_restart():
    """No call may fail; each ran once."""
    until_s = time.monotonic() + 60
    while not (RECORD / "restarted").exists():
        me = mark()
        assert fal_client.run(PARROT, {"mark": me, "ms": 50}, path="/work")["mark"] == me
        assert calls(me) == 1
        assert time.monotonic() < until_s
