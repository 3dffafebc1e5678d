from __future__ import annotations

from typing import Any

from roost.api.runs import run_name
from roost.core.model import RevisionState, RunnerState
from tests.unit.api.world import STRANGER, URL, Stream, World

SESSION = "a file and a class"
NAME = run_name("hello", SESSION)


async def begin(world: World, **spec: Any) -> tuple[Stream, str]:
    stream = world.stream("POST", "/v1/run", {"manifest": await world.manifest(**spec), "session": SESSION})
    accepted = await stream.until("accepted")
    return stream, accepted[0]["revision_id"]


async def serving(world: World, **spec: Any) -> tuple[Stream, str]:
    """A run that is ready and has one runner, `r-<revision>`."""
    stream, revision_id = await begin(world, **spec)
    await world.built(revision_id)
    await world.started(revision_id, f"r-{revision_id}")
    await world.moved(f"r-{revision_id}", RunnerState.IDLE, ready_ms=world.clock.ms)
    await world.switched(revision_id)
    await stream.until("ready")
    return stream, revision_id


async def lease_ms(world: World) -> int | None:
    """How much longer the run lives by itself."""
    alias = await world.store.apps.get("ada", NAME)
    return alias.lease_until_ms - world.clock.ms if alias is not None and alias.lease_until_ms is not None else None


async def test_a_run_is_public_and_ephemeral_and_named_after_its_session(world: World):
    stream, revision_id = await begin(world)
    assert NAME.startswith("hello-") and len(NAME) == len("hello-") + 6
    revision = await world.revision(revision_id)
    assert (revision.name, revision.plan.ephemeral, revision.plan.auth) == (NAME, True, "public")
    await world.built(revision_id)
    await world.switched(revision_id)
    ready = (await stream.until("ready"))[-1]
    assert (ready["application"], ready["auth"], ready["url"]) == (f"ada/{NAME}", "public", f"{URL}/ada/{NAME}")


async def test_a_run_tells_what_its_runners_print_also_those_that_come_later(world: World):
    stream, revision_id = await serving(world)
    world.prints(f"r-{revision_id}", "hello")
    assert (await stream.until("log"))[-1]["message"] == "hello"
    await world.started(revision_id, "r2")
    world.prints("r2", "from the second")
    assert (await stream.until("log"))[-1]["message"] == "from the second"


async def test_an_open_stream_renews_the_lease(world: World):
    stream, _ = await serving(world)
    for _ in range(4):
        world.clock.ms += 4_000
        await stream.until("beat")
        # The lease is renewed in the same round that says the beat.
        assert await lease_ms(world) == 10_000


async def test_a_closed_stream_leaves_the_run_a_moment_in_which_it_may_come_back(world: World):
    stream, revision_id = await serving(world)
    await stream.hang_up()
    assert await lease_ms(world) == 3_000
    assert (await world.revision(revision_id)).state is RevisionState.DEPLOYED
    world.prints(f"r-{revision_id}", "printed before")
    again, same = await begin(world)
    assert same == revision_id
    assert "ms" not in (await again.until("ready"))[-1]
    world.prints(f"r-{revision_id}", "printed after")
    assert (await again.until("log"))[-1]["message"] == "printed after"
    assert await lease_ms(world) == 10_000


async def test_who_comes_back_may_say_what_was_seen_last(world: World):
    stream, revision_id = await serving(world)
    await stream.hang_up()
    world.prints(f"r-{revision_id}", "seen", at_ms=5_000)
    world.prints(f"r-{revision_id}", "missed", at_ms=6_000)
    again = world.stream("POST", "/v1/run", {"manifest": await world.manifest(), "session": SESSION, "since": 5_001})
    assert (await again.until("log"))[-1]["message"] == "missed"


async def test_an_edited_run_takes_the_address_over_and_the_old_stream_ends(world: World):
    old, first = await serving(world)
    new, second = await serving(world, pickle=b"edited")
    assert first != second
    ended = (await old.rest())[-1]
    assert ended["event"] == "ended"
    assert "took its place" in ended["reason"]
    assert await lease_ms(world) == 10_000
    await new.hang_up()
    assert await lease_ms(world) == 3_000


async def test_the_same_run_in_a_second_terminal_takes_over_as_well(world: World):
    _, first = await serving(world)
    _, second = await begin(world)
    assert first != second


async def test_hanging_up_while_it_is_prepared_leaves_nothing(world: World):
    stream, revision_id = await begin(world)
    await stream.hang_up()
    assert (await world.revision(revision_id)).state is RevisionState.FAILED
    assert await world.store.apps.get("ada", NAME) is None


async def test_ending_a_run_deletes_its_address_at_once(world: World):
    stream, _ = await serving(world)
    with world.hints.listen("apps") as apps, world.hints.listen("fleet") as fleet:
        assert (await world.call("DELETE", f"/v1/run/{NAME}")).status == 204
        assert apps.is_set() and fleet.is_set()
    assert await world.store.apps.get("ada", NAME) is None
    assert (await stream.rest())[-1] == {"event": "ended", "reason": "its author ended it"}
    assert (await world.call("DELETE", f"/v1/run/{NAME}")).status == 404


async def test_ending_a_run_that_is_still_prepared_gives_it_up(world: World):
    stream, revision_id = await begin(world)
    assert (await world.call("DELETE", f"/v1/run/{NAME}")).status == 204
    assert (await world.revision(revision_id)).state is RevisionState.FAILED
    assert (await stream.rest())[-1]["event"] == "error"


async def test_a_run_whose_lease_ended_says_so(world: World):
    stream, _ = await serving(world)
    await world.store.apps.delete("ada", NAME, world.clock.ms, reason="its `roost run` ended")
    assert (await stream.rest())[-1] == {"event": "ended", "reason": "its `roost run` ended"}


async def test_a_deployed_app_is_no_run_and_neither_is_a_strangers(world: World):
    await world.app("hello")
    await serving(world)
    assert (await world.call("DELETE", "/v1/run/hello")).status == 404
    assert (await world.call("DELETE", f"/v1/run/{NAME}", key=STRANGER)).status == 404
    assert await world.store.apps.get("ada", "hello") is not None


async def test_a_planned_restart_keeps_the_run_until_its_author_is_back(world: World):
    stream, revision_id = await serving(world)
    world.clock.ms += 1_000
    world.closing.set()
    assert (await stream.rest())[-1] == {"event": "restarting"}
    assert await lease_ms(world) == 10_000
    world.closing.clear()
    _, same = await begin(world)
    assert same == revision_id


async def test_a_run_that_fails_leaves_the_one_before_it_alone(world: World):
    old, first = await serving(world)
    new, second = await begin(world, pickle=b"broken")
    await world.failed(second, "the class could not be loaded: ImportError")
    assert (await new.rest())[-1]["error_type"] == "build_failed"
    alias = await world.store.apps.get("ada", NAME)
    assert alias is not None
    assert alias.revision_id == first
    await old.hang_up()


async def test_a_run_may_not_take_the_name_of_a_deployed_app(world: World):
    await world.app(NAME)
    answer = await world.call("POST", "/v1/run", {"manifest": await world.manifest(), "session": SESSION})
    assert answer.refusal()[:2] == (409, "conflict")


async def test_a_run_without_a_session_is_refused(world: World):
    for session in (None, "", 5):
        answer = await world.call("POST", "/v1/run", {"manifest": await world.manifest(), "session": session})
        assert answer.refusal()[:2] == (422, "unprocessable")
