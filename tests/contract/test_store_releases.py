"""What the store promises about releases and the end of revisions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from roost.core.lifecycle import ReleaseEvent
from roost.core.model import Recipe, Release, ReleaseKind, ReleaseState, RevisionState, RunnerState
from roost.kit.clock import SystemClock
from roost.store import MEMORY, Store, Violation
from tests.contract.test_store import a_revision, a_runner, an_alias


@pytest.fixture(params=["sqlite file", "sqlite memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "roost.db" if request.param == "sqlite file" else MEMORY, SystemClock())
    yield store
    await store.close()


def a_release(id: str = "rel-1", **changes: object) -> Release:
    release = Release(
        id, "ada", "painter", "main", ReleaseKind.MOVE, "rev-1", "rolling", None, ReleaseState.UNDER_WAY, "asked for", "key:k", 1_000
    )
    return replace(release, **changes)  # type: ignore[arg-type]


async def test_a_release_comes_back_as_it_was_stored(store: Store) -> None:
    release = a_release(kind=ReleaseKind.RENEW, auth="public", strategy="recreate")
    await store.releases.create(release)
    assert await store.releases.get("rel-1") == release
    assert await store.releases.get("rel-2") is None
    with pytest.raises(Violation):
        await store.releases.create(release)


async def test_a_release_ends_once(store: Store) -> None:
    await store.releases.create(a_release())
    assert await store.releases.end("rel-1", ReleaseEvent.DONE, "a runner is ready", 2_000)
    assert not await store.releases.end("rel-1", ReleaseEvent.FAIL, "too late", 3_000)
    ended = await store.releases.get("rel-1")
    assert ended is not None and (ended.state, ended.reason, ended.ended_ms) == (ReleaseState.DONE, "a runner is ready", 2_000)
    told = [(event.kind, event.reason) for event in await store.events.list("app:ada/painter")]
    assert sorted(told) == [("release_begun", "asked for"), ("release_done", "a runner is ready")]


async def test_what_is_under_way_is_found_oldest_first_and_the_history_newest_first(store: Store) -> None:
    for n in (3, 1, 2):
        await store.releases.create(a_release(f"rel-{n}", begun_ms=1_000 * n))
    await store.releases.end("rel-2", ReleaseEvent.FAIL, "no", 9_000)
    assert [one.id for one in await store.releases.under_way()] == ["rel-1", "rel-3"]
    assert [one.id for one in await store.releases.list("ada", "painter")] == ["rel-3", "rel-2", "rel-1"]
    assert await store.releases.list("ada", "other") == ()


async def test_a_revision_is_forgotten_only_when_nothing_needs_it(store: Store) -> None:
    for name in ("rev-1", "rev-2"):
        await store.revisions.create(a_revision(name, state=RevisionState.DEPLOYED))
    await store.apps.point(an_alias())
    assert not await store.revisions.delete("rev-1", 5_000)
    await store.apps.point(an_alias(revision_id="rev-2"))
    await store.runners.create(a_runner())
    assert not await store.revisions.delete("rev-1", 5_000)
    await store.runners.move("run-1", (RunnerState.PENDING,), RunnerState.TERMINATED, "gone", 5_000)
    await store.releases.create(a_release())
    assert not await store.revisions.delete("rev-1", 5_000)
    await store.releases.end("rel-1", ReleaseEvent.FAIL, "no", 6_000)
    assert await store.revisions.delete("rev-1", 7_000, reason="deleted by hand")
    assert await store.revisions.get("rev-1") is None and await store.runners.get("run-1") is None
    assert not await store.revisions.delete("rev-1", 8_000)


async def test_a_revision_that_is_under_way_is_not_forgotten(store: Store) -> None:
    await store.revisions.create(a_revision())
    assert not await store.revisions.delete("rev-1", 5_000)


async def test_a_rollback_on_its_way_keeps_its_packages(store: Store) -> None:
    revision = a_revision(state=RevisionState.DEPLOYED)
    await store.revisions.create(revision)
    await store.environments.put_pending("env-1", Recipe("3.11", (("numpy",),), ()), 1_000)
    await store.releases.create(a_release())
    assert await store.environments.in_use() == {"env-1"}
    await store.releases.end("rel-1", ReleaseEvent.FAIL, "no", 6_000)
    assert await store.environments.in_use() == frozenset()
