"""Runners that print without end: their logs stay small while they live and when they have ended."""

from __future__ import annotations

from roost.data.logs import KEEP_BYTES
from roost.testkit.script import Answer, Script, always
from roost.testkit.world import World

TOO_MUCH = b"a line\n" * ((KEEP_BYTES + 8_000_000) // 7)


async def test_logs_are_trimmed_while_their_runners_live_and_when_they_have_just_ended(world: World) -> None:
    await world.app(Script(answer=always(Answer(503))), Script(), max_concurrency=1)
    await world.call()
    await world.call()
    ended, living = (launch.runner_id for launch in world.backend.launches)
    assert [runner.id for runner in await world.ended()] == [ended]
    for runner_id in (ended, living):
        world.server.logs.path(runner_id).write_bytes(TOO_MUCH)
    assert await world.server.upkeep.trim_logs() < 30
    for runner_id in (ended, living):
        assert world.server.logs.path(runner_id).stat().st_blocks * 512 <= KEEP_BYTES + 1_000_000
