"""Failpoints stand around the messages of a queued call, and around nothing else. They are armed at import, so in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CALLS = """
import asyncio, sys
from roost.link.connection import CallConnection
from roost.testkit import pipe
from roost.wire import frames
from roost.wire.frames import RequestHead, ResponseHead
from roost.wire.session import RunnerSession, Slots

class Runner(asyncio.Protocol):
    session = RunnerSession(Slots(9))
    def data_received(self, data):
        for kind, stream, value in self.session.receive(data):
            if kind == frames.RESUME:
                self.session.resumed(stream, takes_slot=True)
            if kind in (frames.BODY_END, frames.RESUME):
                self.session.respond(stream, ResponseHead(200, []))
                self.session.send_body(stream, b"", end=True)
                self.session.done(stream)
        self.transport.write(self.session.take())

async def ended(exchange):
    while not exchange.finished:
        await exchange.next()

async def main():
    connection = CallConnection("r", lambda c: None, lambda c: None, lambda c, n: None)
    runner = Runner()
    runner.transport = pipe.connect(runner, connection)
    head = RequestHead("POST", b"/", b"", [])
    if sys.argv[1] == "direct":
        return await ended(connection.open(head, b"", body_ended=True))
    exchange = connection.reserve()
    if (await exchange.next())[0] == frames.ACCEPT:
        exchange.keep("q", 1)
        exchange.send(head, b"", True)
        await ended(exchange)
        connection.taken([("q", 1)])
        connection.drop([("q", 2)])
        await ended(connection.resume("q", 3))
        unused = connection.reserve()
        unused.release_unused()
        await ended(unused)
    print("lost" if connection.lost else "whole")

asyncio.run(main())
"""


def run(kind: str, **environ: str) -> str:
    done = subprocess.run([sys.executable, "-c", CALLS, kind], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_each_message_of_a_queued_call_has_its_points(tmp_path: Path) -> None:
    log = tmp_path / "points"
    assert run("queued", ROOST_FAILPOINTS_LOG=str(log)) == "whole"
    sent = ("reserve", "keep", "head", "taken", "drop", "resume", "release")
    expected = {f"link.{name}:{when}" for name in sent for when in ("before", "after")} | {"link.accepted", "link.response", "link.done"}
    found = log.read_text().split()
    assert set(found) == expected
    assert found.index("link.keep:before") > found.index("link.accepted") > found.index("link.reserve:after")


def test_a_direct_call_visits_none(tmp_path: Path) -> None:
    log = tmp_path / "points"
    run("direct", ROOST_FAILPOINTS_LOG=str(log))
    assert not log.exists()


def test_an_armed_raise_is_a_connection_that_breaks() -> None:
    for point in ("link.reserve:before", "link.reserve:after", "link.accepted"):
        assert run("queued", ROOST_FAILPOINTS=f"{point}=raise") == "lost", point
