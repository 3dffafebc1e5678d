"""What a runner gets of requests that could be read in two ways (faults.md S-23): nothing; and of the others, one request framed anew."""

from __future__ import annotations

from pathlib import Path

from roost.testkit.dialling import Dialling
from roost.testkit.script import Answer, Script, always
from roost.testkit.world import World
from tests.smuggling import CASES

_NOT_FOR_APPS = {b"transfer-encoding", b"connection", b"upgrade", b"x-late", b"authorization"}


async def test_a_runner_gets_what_was_read_in_one_way_and_nothing_else(home: Path) -> None:
    world = await World.open(home)
    await world.app(Script(answer=always(Answer())), min_concurrency=1, max_multiplexing=4)
    await world.advance(3)
    for case in CASES:
        before = len(world.backend.received)
        # Twice: what was accepted once is not parsed again.
        for _ in range(2):
            dialling = Dialling(world.server.http.newcomer(), [case.sent], world.clock.now_ms)
            await world.advance(0.1)
            assert dialling.closed or not case.refused, case.what
            dialling.hang_up()
            await world.settle()
        calls = [call for call in world.backend.received[before:] if not call.bypass]
        got = [
            (call.head.method, f"/me/app{call.path.rstrip('/')}{'?' * bool(call.head.query)}{call.head.query.decode()}", call.body)
            for call in calls
        ]
        assert got == list(case.got) * 2, case.what
        for call in calls:
            assert not _NOT_FOR_APPS & {name for name, _ in call.head.headers}, case.what
    assert world.in_flight() == 0
    await world.close()
