"""The store and the disk in step: a real store in memory, and the real builder, which is quick for packages made here."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost.builders.base import BuildError
from roost.builders.venv import VenvBuilder
from roost.core.model import EnvState
from roost.engines.build import BuildEngine
from roost.kit.clock import SystemClock
from roost.store import MEMORY, Store
from tests import packages
from tests.workshop import NEVER_DONE, Listener, Workshop, ignore, leave, recipe


@pytest.fixture
async def workshop(tmp_path: Path) -> AsyncIterator[Workshop]:
    workshop = Workshop.make(tmp_path)
    packages.wheel(workshop.wheels, "bee")
    yield workshop
    await workshop.spawner.close()


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await Store.open(MEMORY, SystemClock())
    yield store
    await store.close()


@pytest.fixture
def builder(workshop: Workshop) -> VenvBuilder:
    return workshop.builder()


@pytest.fixture
def engine(store: Store, builder: VenvBuilder) -> BuildEngine:
    return BuildEngine(store.environments, builder, SystemClock())


async def state(store: Store, key: str) -> EnvState | None:
    env = await store.environments.get(key)
    return env.state if env else None


async def test_a_first_asker_builds_and_a_second_one_later_gets_it_at_once(engine: BuildEngine, store: Store) -> None:
    first = await engine.ensure(recipe(("bee",)), "k1", ignore)
    assert first.state is EnvState.READY and first.packages == ("bee==1.0",)
    listener = Listener()
    again = await engine.ensure(recipe(("bee",)), "k1", listener)
    assert again.packages == first.packages and listener.lines == []
    assert await state(store, "k1") is EnvState.READY


async def test_askers_at_the_same_time_share_one_build(engine: BuildEngine, store: Store) -> None:
    listeners = Listener(), Listener(), Listener()
    envs = await asyncio.gather(*(engine.ensure(recipe(("bee",)), "k1", listener) for listener in listeners))
    assert {env.build_ms for env in envs} == {envs[0].build_ms} and envs[0].build_ms > 0
    assert listeners[0].lines == listeners[1].lines == listeners[2].lines != []
    kinds = [event.kind for event in await store.events.list("env:k1")]
    assert sorted(kinds) == ["BUILDING", "PENDING", "READY"]


async def test_a_failure_is_remembered_and_tried_again_when_asked_again(engine: BuildEngine, store: Store, workshop: Workshop) -> None:
    with pytest.raises(BuildError):
        await engine.ensure(recipe(("wasp",)), "k1", ignore)
    env = await store.environments.get("k1")
    assert env is not None and env.state is EnvState.FAILED and "wasp was not found" in env.reason
    packages.wheel(workshop.wheels, "wasp")
    assert (await engine.ensure(recipe(("wasp",)), "k1", ignore)).packages == ("wasp==1.0",)
    assert await state(store, "k1") is EnvState.READY


async def test_an_obvious_conflict_is_refused_before_anything_is_written(engine: BuildEngine, store: Store) -> None:
    with pytest.raises(BuildError, match="pydantic") as failure:
        await engine.ensure(recipe(("pydantic<2",), pins=("pydantic==2.7.0",)), "k1", ignore)
    assert failure.value.hint
    assert await state(store, "k1") is None


async def test_one_asker_that_leaves_does_not_fail_the_other(engine: BuildEngine, store: Store) -> None:
    listener = Listener()
    first, second = (asyncio.create_task(engine.ensure(recipe(("bee",)), "k1", listen)) for listen in (ignore, listener))
    await listener.hears("Creating")
    await leave(first)
    assert (await second).state is EnvState.READY
    assert await state(store, "k1") is EnvState.READY


async def test_when_the_last_asker_leaves_nothing_is_being_built(engine: BuildEngine, store: Store, workshop: Workshop) -> None:
    packages.source(workshop.wheels, "slow", NEVER_DONE)
    listener = Listener()
    asker = asyncio.create_task(engine.ensure(recipe(("slow",)), "k1", listener))
    await listener.hears("Building slow")
    await leave(asker)
    assert await state(store, "k1") is EnvState.FAILED


async def test_after_a_crash_the_build_begins_anew(engine: BuildEngine, builder: VenvBuilder, store: Store, workshop: Workshop) -> None:
    await store.environments.put_pending("k1", recipe(("bee",)), 1)
    await store.environments.claim_build("k1", 2)
    (workshop.envs / ".building-k1-dead" / "venv").mkdir(parents=True)
    await engine.reset()
    assert await state(store, "k1") is EnvState.PENDING and workshop.left_over() == []
    assert (await engine.ensure(recipe(("bee",)), "k1", ignore)).state is EnvState.READY


async def test_a_folder_that_somebody_removed_is_built_again(engine: BuildEngine, builder: VenvBuilder) -> None:
    await engine.ensure(recipe(("bee",)), "k1", ignore)
    shutil.rmtree(builder.path("k1"))
    assert (await engine.ensure(recipe(("bee",)), "k1", ignore)).state is EnvState.READY
    assert builder.exists("k1")


async def test_prune_removes_what_nobody_uses_and_keeps_base_environments(engine: BuildEngine, builder: VenvBuilder, store: Store) -> None:
    await engine.ensure(recipe(pins=("bee==1.0",)), "base", ignore)
    for key in ("used", "unused"):
        await engine.ensure(recipe(("bee",)), key, ignore)
    (builder.path("unknown") / "bin").mkdir(parents=True)
    pruned = await engine.prune(all=False, in_use={"used"})
    assert pruned.removed == ("unknown", "unused") and pruned.freed_bytes > 0
    assert builder.keys() == {"base", "used"}
    assert await state(store, "unused") is None
    assert (await engine.prune(all=True, in_use={"used"})).removed == ("base",)
    assert builder.keys() == {"used"}


async def test_prune_leaves_what_is_being_built(engine: BuildEngine, builder: VenvBuilder) -> None:
    listener = Listener()
    asker = asyncio.create_task(engine.ensure(recipe(("bee",)), "k1", listener))
    await listener.hears("Creating")
    assert (await engine.prune(all=False, in_use=set())).removed == ()
    await asker
    assert builder.exists("k1")


async def test_stopping_ends_builds_and_those_who_wait_hear_why(engine: BuildEngine, workshop: Workshop) -> None:
    packages.source(workshop.wheels, "slow", NEVER_DONE)
    listener = Listener()
    asker = asyncio.create_task(engine.ensure(recipe(("slow",)), "k1", listener))
    await listener.hears("Building slow")
    await engine.stop()
    with pytest.raises(BuildError, match="server stopped"):
        await asker
    assert await workshop.spawner.living() == []
