"""What the store promises, whatever it keeps its rows in. A new driver joins by a line in `open_driver`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from roost.core.model import (
    Alias,
    EnvState,
    Event,
    Key,
    Recipe,
    Revision,
    RevisionState,
    Runner,
    RunnerState,
    Scale,
)
from roost.core.stages import ColdStart
from roost.kit.clock import SystemClock
from roost.store import SchemaTooNew, Store, StoreClosed, StoreError, Violation
from roost.store.driver import Driver, Reading, Writing
from roost.store.migrate import Migration, known, migrate
from roost.store.sqlite import MEMORY, SqliteDriver
from roost.wire.spec import AppSpec, EndpointSpec, HealthCheckSpec

OpenDriver = Callable[[], Awaitable[Driver]]


@pytest.fixture(params=["sqlite file", "sqlite memory"])
async def open_driver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenDriver]:
    """Opens drivers; on a file they share it, in memory each is alone."""
    opened: list[Driver] = []

    async def open_one() -> Driver:
        driver = await SqliteDriver.open(tmp_path / "roost.db" if request.param == "sqlite file" else MEMORY)
        opened.append(driver)
        return driver

    yield open_one
    for driver in opened:
        await driver.close()


@pytest.fixture
async def driver(open_driver: OpenDriver) -> Driver:
    driver = await open_driver()
    await driver.write(lambda tx: tx.script("CREATE TABLE words (word TEXT NOT NULL PRIMARY KEY)"), "test")
    return driver


@pytest.fixture
async def store(open_driver: OpenDriver) -> Store:
    return await Store.on(await open_driver(), SystemClock(), known())


def say(word: str) -> Callable[[Writing], int]:
    return lambda tx: tx.run("INSERT INTO words (word) VALUES (:word)", {"word": word})


def said(tx: Reading) -> list[str]:
    return [row["word"] for row in tx.rows("SELECT word FROM words ORDER BY word")]


def a_revision(id: str = "rev-1", **changes: object) -> Revision:
    revision = Revision(
        id=id,
        owner="ada",
        name="painter",
        environment="main",
        state=RevisionState.BUILDING,
        reason="",
        spec=AppSpec(
            name="painter",
            class_name="Painter",
            python_version="3.11",
            requirements=(("numpy",), ("pillow>=10", "magika")),
            endpoints=(EndpointSpec("/", "paint"), EndpointSpec("/ws", "talk", is_websocket=True)),
            health_check=HealthCheckSpec("/health"),
            retry_config=(("timeout", 3),),
            host_options={"_scheduler": "nomad"},
        ),
        bundle="b" * 64,
        working_dir="src",
        runtime="0.1.0",
        env_key="env-1",
        openapi={"paths": {"/": {"post": {"summary": "Malt ein Bild ü"}}}},
        message="first",
        annotations=(("git", "abc"),),
        created_by="key-1",
        created_ms=1_000,
    )
    return replace(revision, **changes)  # type: ignore[arg-type]


def an_alias(**changes: object) -> Alias:
    alias = Alias(
        owner="ada",
        name="painter",
        environment="main",
        revision_id="rev-1",
        auth="private",
        scale=Scale(keep_alive_ms=5, machine_types=("S", "GPU-H100")),
        ephemeral=False,
        lease_until_ms=None,
        created_ms=1_000,
        updated_ms=1_000,
    )
    return replace(alias, **changes)  # type: ignore[arg-type]


def a_runner(id: str = "run-1", **changes: object) -> Runner:
    runner = Runner(
        id=id,
        owner="ada",
        name="painter",
        revision_id="rev-1",
        state=RunnerState.PENDING,
        pid=None,
        machine_type="S",
        token_hash="t" * 64,
        served=0,
        created_ms=1_000,
        ready_ms=None,
        idle_since_ms=None,
        ended_ms=None,
        reason="wanted",
    )
    return replace(runner, **changes)  # type: ignore[arg-type]


def a_key(id: str = "key-1", **changes: object) -> Key:
    return replace(
        Key(id=id, owner="ada", scope="ADMIN", alias="laptop", secret_hash="h", created_ms=1, revoked_ms=None),
        **changes,  # type: ignore[arg-type]
    )


A_RECIPE = Recipe(python_version="3.11", layers=(("numpy",), ("pillow",)), pins=("fastapi==0.115.0",))


async def kinds(store: Store, subject: str) -> list[str]:
    return [event.kind for event in await store.events.list(subject)]


# --- the driver


async def test_a_write_answers_its_result_and_can_be_read(driver: Driver) -> None:
    assert await driver.write(say("hello"), "test") == 1
    assert await driver.read(said) == ["hello"]


async def test_writes_that_queue_up_share_commits(driver: Driver) -> None:
    before = driver.stats()
    await asyncio.gather(*(driver.write(say(f"{n:03}"), "test") for n in range(400)))
    after = driver.stats()
    assert after.writes - before.writes == 400
    assert after.commits - before.commits <= 40
    assert len(await driver.read(said)) == 400


async def test_an_error_in_one_of_many_writes_reaches_only_its_caller(driver: Driver) -> None:
    def fails(tx: Writing) -> int:
        tx.run("INSERT INTO words (word) VALUES ('half done')")
        raise ValueError("changed my mind")

    works = [say("a"), fails, say("b"), say("a"), say("c")]
    outcomes = await asyncio.gather(*(driver.write(work, "test") for work in works), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [int, ValueError, int, Violation, int]
    assert await driver.read(said) == ["a", "b", "c"]


async def test_a_statement_that_makes_no_sense_is_a_store_error_and_harms_nobody(driver: Driver) -> None:
    with pytest.raises(StoreError, match="refused a statement"):
        await driver.write(lambda tx: tx.run("INSERT INTO nowhere VALUES (1)"), "test")
    with pytest.raises(StoreError, match="refused a statement"):
        await driver.read(lambda tx: tx.rows("SELECT * FROM nowhere"))
    await driver.write(say("after"), "test")
    assert await driver.read(said) == ["after"]


async def test_a_cancelled_caller_gives_up_the_answer_and_not_the_write(driver: Driver) -> None:
    cancelled = asyncio.ensure_future(driver.write(say("cancelled"), "test"))
    others = [asyncio.ensure_future(driver.write(say(f"other {n}"), "test")) for n in range(3)]
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await asyncio.gather(*others) == [1, 1, 1]
    assert cancelled.cancelled()
    assert await driver.read(said) == ["cancelled", "other 0", "other 1", "other 2"]


async def test_close_finishes_what_was_handed_over_and_then_refuses(driver: Driver) -> None:
    writes = [asyncio.ensure_future(driver.write(say(f"{n}"), "test")) for n in range(50)]
    await asyncio.sleep(0)
    await driver.close()
    assert await asyncio.gather(*writes) == [1] * 50
    await driver.close()
    with pytest.raises(StoreClosed, match="closed"):
        await driver.write(say("late"), "test")
    with pytest.raises(StoreClosed):
        await driver.read(said)


async def test_text_with_half_a_character_is_kept_readable_and_not_refused(driver: Driver) -> None:
    await driver.write(say("file \udcff.py"), "test")
    assert await driver.read(said) == ["file \\udcff.py"]


# --- migrations

STEPS = (
    Migration(1, "one", "CREATE TABLE one (n INTEGER); INSERT INTO one VALUES (1);"),
    Migration(2, "two", "CREATE TABLE two (n INTEGER); INSERT INTO two SELECT n + 1 FROM one; DROP TABLE one;"),
)


async def test_a_migration_killed_half_way_is_undone_and_done_again_at_the_next_open(driver: Driver) -> None:
    killed = replace(STEPS[1], sql=STEPS[1].sql + "SELECT killed_here();")
    with pytest.raises(StoreError, match="killed_here"):
        await migrate(driver, (STEPS[0], killed), 5)
    assert await driver.read(lambda tx: tx.rows("SELECT n FROM one")) == [{"n": 1}]

    await migrate(driver, STEPS, 6)
    await migrate(driver, STEPS, 7)
    assert await driver.read(lambda tx: tx.rows("SELECT n FROM two")) == [{"n": 2}]
    applied = await driver.read(lambda tx: tx.rows("SELECT version, name, applied_ms FROM migrations ORDER BY version"))
    assert applied == [{"version": 1, "name": "one", "applied_ms": 5}, {"version": 2, "name": "two", "applied_ms": 6}]


async def test_several_who_migrate_at_once_apply_each_step_once(driver: Driver) -> None:
    await asyncio.gather(*(migrate(driver, STEPS, 5) for _ in range(5)))
    assert await driver.read(lambda tx: tx.rows("SELECT n FROM two")) == [{"n": 2}]


async def test_a_database_newer_than_the_code_is_refused_and_left_alone(driver: Driver) -> None:
    await migrate(driver, STEPS, 5)
    with pytest.raises(SchemaTooNew, match=r"has schema 2; this version of roost knows schemas up to 1") as refused:
        await Store.on(driver, SystemClock(), STEPS[:1])
    assert "newer roost" in refused.value.hint


async def test_every_table_has_account_and_environment(open_driver: OpenDriver) -> None:
    driver = await open_driver()
    await migrate(driver, known(), 5)
    columns = await driver.read(
        lambda tx: tx.rows(
            "SELECT tables.name AS name, columns.name AS found FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns"
            " WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite_%'"
        )
    )
    tables = {row["name"] for row in columns}
    assert {"apps", "revisions", "runners", "envs", "decisions", "keys", "events", "meta"} <= tables
    for column in ("account", "environment"):
        assert {row["name"] for row in columns if row["found"] == column} == tables


# --- apps and revisions


async def test_an_alias_keeps_its_birthday_when_it_is_pointed_elsewhere(store: Store) -> None:
    await store.revisions.create(a_revision("rev-1"))
    await store.revisions.create(a_revision("rev-2"))
    assert await store.apps.point(an_alias()) == an_alias()
    moved = await store.apps.point(
        an_alias(revision_id="rev-2", auth="public", created_ms=2_000, updated_ms=2_000), reason="deploy", actor="key-1"
    )
    assert moved == an_alias(revision_id="rev-2", auth="public", updated_ms=2_000)
    assert await store.apps.get("ada", "painter") == moved
    created, pointed = await store.events.list("app:ada/painter")
    assert (created.kind, pointed.kind, pointed.reason, pointed.actor, pointed.at_ms) == ("created", "pointed", "deploy", "key-1", 2_000)
    assert pointed.data == {"revision_id": "rev-2", "before": "rev-1"}


async def test_an_alias_cannot_point_to_a_revision_that_does_not_exist(store: Store) -> None:
    with pytest.raises(Violation):
        await store.apps.point(an_alias(revision_id="nowhere"))
    assert await store.apps.get("ada", "painter") is None
    assert await kinds(store, "app:ada/painter") == []


async def test_aliases_are_listed_by_owner_and_environment(store: Store) -> None:
    for owner, name, environment in [("ada", "b", "main"), ("ada", "a--staging", "staging"), ("bob", "c", "main")]:
        await store.apps.point(an_alias(owner=owner, name=name, environment=environment, revision_id=None))

    async def names(owner: str | None = None, environment: str | None = None) -> list[str]:
        return [alias.name for alias in await store.apps.list(owner, environment)]

    assert await names() == ["a--staging", "b", "c"]
    assert await names(owner="ada") == ["a--staging", "b"]
    assert await names(environment="main") == ["b", "c"]
    assert await names("ada", "main") == ["b"]


async def test_scale_and_auth_change_only_what_exists(store: Store) -> None:
    assert not await store.apps.set_scale("ada", "painter", Scale(), 5)
    assert not await store.apps.set_auth("ada", "painter", "public", 5)
    await store.apps.point(an_alias(revision_id=None))
    scale = Scale(max_concurrency=3, request_start_timeout_ms=7, machine_types=("M",))
    assert await store.apps.set_scale("ada", "painter", scale, 5)
    assert await store.apps.set_auth("ada", "painter", "public", 6)
    assert await store.apps.get("ada", "painter") == an_alias(revision_id=None, scale=scale, auth="public", updated_ms=6)
    assert await kinds(store, "app:ada/painter") == ["created", "scaled", "auth"]


async def test_an_ephemeral_alias_ends_with_its_lease_unless_it_was_renewed(store: Store) -> None:
    await store.apps.point(an_alias(name="gone", revision_id=None, ephemeral=True, lease_until_ms=100))
    await store.apps.point(an_alias(name="renewed", revision_id=None, ephemeral=True, lease_until_ms=100))
    await store.apps.point(an_alias(name="permanent", revision_id=None))
    assert await store.apps.expired(99) == ()
    assert {alias.name for alias in await store.apps.expired(100)} == {"gone", "renewed"}

    assert await store.apps.renew_lease("ada", "renewed", 200)
    assert not await store.apps.renew_lease("ada", "permanent", 200)
    assert await store.apps.delete_expired("ada", "gone", 100)
    assert not await store.apps.delete_expired("ada", "renewed", 100)
    assert not await store.apps.delete_expired("ada", "permanent", 100)
    assert not await store.apps.renew_lease("ada", "gone", 200)
    assert [alias.name for alias in await store.apps.list()] == ["permanent", "renewed"]


async def test_deleting_an_app_leaves_its_revisions(store: Store) -> None:
    await store.revisions.create(a_revision())
    await store.apps.point(an_alias())
    assert await store.apps.delete("ada", "painter", 9, reason="asked for", actor="key-1")
    assert not await store.apps.delete("ada", "painter", 9)
    assert await store.revisions.get("rev-1") == a_revision()
    assert await kinds(store, "app:ada/painter") == ["created", "deleted"]


async def test_a_revision_comes_back_as_it_was_stored(store: Store) -> None:
    await store.revisions.create(a_revision("old", created_ms=1))
    await store.revisions.create(a_revision("new", created_ms=2))
    await store.revisions.create(a_revision("other", name="other"))
    assert await store.revisions.list("ada", "painter") == (a_revision("new", created_ms=2), a_revision("old", created_ms=1))
    assert await store.revisions.get("nowhere") is None
    with pytest.raises(Violation):
        await store.revisions.create(a_revision("old"))


async def test_a_revision_changes_its_state_only_from_where_it_is_expected(store: Store) -> None:
    await store.revisions.create(a_revision())
    assert await store.revisions.set_state("rev-1", {RevisionState.BUILDING}, RevisionState.FAILED, "no such package", 7)
    assert not await store.revisions.set_state("rev-1", {RevisionState.BUILDING, RevisionState.STARTING}, RevisionState.DEPLOYED, "", 8)
    assert not await store.revisions.set_state("rev-1", (), RevisionState.DEPLOYED, "", 8)
    assert await store.revisions.get("rev-1") == a_revision(state=RevisionState.FAILED, reason="no such package")
    assert await kinds(store, "revision:rev-1") == ["BUILDING", "FAILED"]
    assert await store.revisions.in_state(RevisionState.BUILDING, RevisionState.STARTING) == ()
    assert [revision.id for revision in await store.revisions.in_state(RevisionState.FAILED)] == ["rev-1"]


# --- runners


@pytest.fixture
async def with_revision(store: Store) -> Store:
    await store.revisions.create(a_revision())
    return store


async def test_of_two_who_move_a_runner_one_wins_and_one_hears_of_it(with_revision: Store) -> None:
    runners = with_revision.runners
    await runners.create(a_runner(state=RunnerState.IDLE))
    taken, drained = await asyncio.gather(
        runners.move("run-1", {RunnerState.IDLE}, RunnerState.RUNNING, "a call", 5, served=1, idle_since_ms=None),
        runners.move("run-1", {RunnerState.IDLE}, RunnerState.DRAINING, "scaled down", 5),
    )
    assert taken == a_runner(state=RunnerState.RUNNING, served=1, reason="a call")
    assert drained is None
    assert await runners.get("run-1") == taken
    assert await kinds(with_revision, "runner:run-1") == ["IDLE", "RUNNING"]


async def test_a_runner_that_ends_knows_when_and_takes_no_more_changes(with_revision: Store) -> None:
    runners = with_revision.runners
    await runners.create(a_runner())
    assert await runners.update("run-1", pid=42, served=3)
    ended = await runners.move("run-1", set(RunnerState) - {RunnerState.TERMINATED}, RunnerState.TERMINATED, "setup failed", 77)
    assert ended == a_runner(state=RunnerState.TERMINATED, pid=42, served=3, ended_ms=77, reason="setup failed")
    assert not await runners.update("run-1", served=4)
    with pytest.raises(TypeError, match="revision_id"):
        await runners.update("run-1", revision_id=7)


async def test_runners_are_found_by_app_revision_and_end(with_revision: Store) -> None:
    store = with_revision
    await store.revisions.create(a_revision("rev-2"))
    for runner_id, changes in {
        "a": {"created_ms": 1},
        "b": {"created_ms": 2, "revision_id": "rev-2", "state": RunnerState.IDLE},
        "c": {"created_ms": 3, "name": "other"},
        "d": {"created_ms": 4, "state": RunnerState.TERMINATED, "ended_ms": 50},
        "e": {"created_ms": 5, "state": RunnerState.TERMINATED, "ended_ms": 60},
    }.items():
        await store.runners.create(a_runner(runner_id, **changes))

    def ids(runners: tuple[Runner, ...]) -> str:
        return "".join(runner.id for runner in runners)

    assert ids(await store.runners.living()) == "abc"
    assert ids(await store.runners.of_app("ada", "painter")) == "ab"
    assert ids(await store.runners.of_revision("rev-1")) == "ac"
    assert ids(await store.runners.ended_since(60)) == "e"
    assert await store.runners.counts() == {
        "ada/painter": {RunnerState.PENDING: 1, RunnerState.IDLE: 1},
        "ada/other": {RunnerState.PENDING: 1},
    }
    assert await store.runners.delete_ended_before(60) == 1
    assert ids(await store.runners.ended_since(0)) == "e"


async def test_what_a_runners_start_took_is_kept_with_it_also_after_its_end(with_revision: Store) -> None:
    start = ColdStart((("spawn", 512.5), ("connect", 3.0), ("setup", 40.0)), "CUDA was initialised")
    store = with_revision
    await store.runners.create(a_runner())
    assert await store.runners.keep_cold_start("run-1", start)
    assert not await store.runners.keep_cold_start("run-2", start)
    await store.runners.move("run-1", {RunnerState.PENDING}, RunnerState.TERMINATED, "gone", 9_000)
    runner = await store.runners.get("run-1")
    assert runner is not None and runner.cold_start == start


async def test_runners_that_were_never_ready_are_found_the_newest_first(with_revision: Store) -> None:
    store = with_revision
    for number in range(3):
        await store.runners.create(a_runner(f"run-{number}"))
        await store.runners.move(f"run-{number}", {RunnerState.PENDING}, RunnerState.TERMINATED, "setup() raised", 2_000 + number)
    await store.runners.create(a_runner("run-3"))
    await store.runners.create(a_runner("run-4", ready_ms=1_500))
    await store.runners.move("run-4", {RunnerState.PENDING}, RunnerState.TERMINATED, "idle", 9_000)
    found = await store.runners.never_ready("ada", "painter", 2)
    assert [runner.id for runner in found] == ["run-2", "run-1"]


async def test_a_runner_needs_a_revision(store: Store) -> None:
    with pytest.raises(Violation):
        await store.runners.create(a_runner())


# --- environments


async def test_an_environment_has_one_row_and_one_builder(store: Store) -> None:
    envs = store.environments
    first, second = await asyncio.gather(envs.put_pending("env-1", A_RECIPE, 10), envs.put_pending("env-1", A_RECIPE, 20))
    assert first == second
    assert (first.recipe, first.state, first.created_ms) == (A_RECIPE, EnvState.PENDING, 10)

    claims = await asyncio.gather(*(envs.claim_build("env-1", 30) for _ in range(4)))
    assert [claim.state if claim else None for claim in claims] == [EnvState.BUILDING, None, None, None]
    assert await envs.finish("env-1", True, "", ["numpy==2.0"], 5_000, 300, 40)
    assert not await envs.finish("env-1", False, "late", [], 0, 0, 41)
    assert await envs.claim_build("env-1", 42) is None
    ready = await envs.get("env-1")
    assert ready is not None
    assert (ready.state, ready.packages, ready.size_bytes, ready.build_ms, ready.used_ms) == (
        EnvState.READY,
        ("numpy==2.0",),
        5_000,
        300,
        40,
    )
    assert await kinds(store, "env:env-1") == ["PENDING", "BUILDING", "READY"]


async def test_a_failed_build_may_be_tried_again(store: Store) -> None:
    await store.environments.put_pending("env-1", A_RECIPE, 10)
    await store.environments.claim_build("env-1", 20)
    await store.environments.finish("env-1", False, "no such package: nunpy", [], 0, 10, 30)
    failed = await store.environments.put_pending("env-1", A_RECIPE, 40)
    assert (failed.state, failed.reason) == (EnvState.FAILED, "no such package: nunpy")
    again = await store.environments.claim_build("env-1", 50)
    assert again is not None and (again.state, again.reason) == (EnvState.BUILDING, "")


async def test_builds_of_a_dead_server_are_to_be_built_again(store: Store) -> None:
    for key in ("a", "b"):
        await store.environments.put_pending(key, A_RECIPE, 10)
        await store.environments.claim_build(key, 20)
    await store.environments.finish("b", True, "", [], 0, 10, 30)
    assert await store.environments.reset_building(40) == ("a",)
    assert [(env.key, env.state) for env in await store.environments.list()] == [("b", EnvState.READY), ("a", EnvState.PENDING)]
    assert not await store.environments.finish("a", True, "", [], 0, 10, 50)


async def test_only_an_environment_that_nobody_needs_is_deleted(store: Store) -> None:
    envs = store.environments

    async def ready(key: str) -> None:
        await envs.put_pending(key, A_RECIPE, 1)
        await envs.claim_build(key, 2)
        await envs.finish(key, True, "", [], 0, 1, 3)

    for key in ("of an alias", "of a deploy", "of a runner", "of the past", "of nobody"):
        await ready(key)
        state = RevisionState.STARTING if key == "of a deploy" else RevisionState.DEPLOYED
        if key != "of nobody":
            await store.revisions.create(a_revision(key, env_key=key, state=state))
    await store.apps.point(an_alias(revision_id="of an alias"))
    await store.runners.create(a_runner(revision_id="of a runner"))
    await store.runners.create(a_runner("run-2", revision_id="of the past", state=RunnerState.TERMINATED, ended_ms=5))
    await envs.put_pending("being built", A_RECIPE, 1)
    await envs.claim_build("being built", 2)

    assert await envs.in_use() == {"of an alias", "of a deploy", "of a runner"}
    deleted = {env.key for env in await envs.list() if await envs.delete(env.key, 9)}
    assert deleted == {"of the past", "of nobody"}
    assert await kinds(store, "env:of nobody") == ["PENDING", "BUILDING", "READY", "deleted"]
    assert not await envs.touch("of nobody", 10)
    assert await envs.touch("of an alias", 10)


async def test_an_alias_without_a_revision_does_not_keep_every_environment(store: Store) -> None:
    await store.apps.point(an_alias(revision_id=None))
    await store.environments.put_pending("env-1", A_RECIPE, 1)
    await store.revisions.create(a_revision(state=RevisionState.FAILED))
    assert await store.environments.delete("env-1", 2)


# --- decisions, keys, events, meta


async def test_a_decision_is_stored_when_it_changes_and_counted_while_it_does_not(store: Store) -> None:
    decisions = store.decisions
    assert await decisions.record("ada/painter", 1, "one call waits", {"n": 1}, 10)
    assert not await decisions.record("ada/painter", 1, "one call waits", {"n": 2}, 20)
    assert await decisions.record("ada/painter", 0, "idle for 60 s", {}, 30)
    assert await decisions.record("ada/other", 1, "one call waits", {}, 40)
    idle, wait = await decisions.list("ada/painter")
    assert (wait.runners, wait.times, wait.first_ms, wait.last_ms, wait.memory) == (1, 2, 10, 20, {"n": 2})
    assert await decisions.latest("ada/painter") == idle
    assert await decisions.latest("ada/painter", kind="rollout") is None
    assert await decisions.delete_before(1_000) == 1
    assert await decisions.latest("ada/painter") == idle


async def test_a_key_is_listed_until_it_is_revoked_and_known_after(store: Store) -> None:
    await store.keys.create(a_key("key-1"))
    await store.keys.create(a_key("key-2", created_ms=2))
    await store.keys.create(a_key("of-bob", owner="bob"))
    assert await store.keys.revoke("key-1", 9, actor="key-2")
    assert not await store.keys.revoke("key-1", 10)
    assert not await store.keys.revoke("nowhere", 10)
    assert await store.keys.list("ada") == (a_key("key-2", created_ms=2),)
    assert await store.keys.get("key-1") == a_key("key-1", revoked_ms=9)
    assert await kinds(store, "key:key-1") == ["created", "revoked"]


async def test_a_runners_key_lives_and_ends_with_its_runner(store: Store) -> None:
    key = a_key("of-runner", scope="RUNNER", runner_id="run-1")
    await store.keys.create(key)
    assert await store.keys.of_runner("run-1") == key
    assert await store.keys.list("ada") == ()
    with pytest.raises(Violation):
        await store.keys.create(a_key("another", scope="RUNNER", runner_id="run-1"))
    assert await store.keys.delete_for_runner("run-1")
    assert not await store.keys.delete_for_runner("run-1")
    assert await store.keys.get("of-runner") is None


async def test_the_timeline_shows_the_newest_events_oldest_first(store: Store) -> None:
    for at in range(5):
        await store.events.append(Event(0, at, "app:ada/a" if at % 2 else "app:ada/b", f"k{at}", "why", "key-1", {"at": at}), owner="ada")
    assert [event.kind for event in await store.events.list(limit=3)] == ["k2", "k3", "k4"]
    assert [event.kind for event in await store.events.list("app:ada/b", since_ms=1)] == ["k2", "k4"]
    last = (await store.events.list())[-1]
    assert last == Event(last.seq, 4, "app:ada/b", "k4", "why", "key-1", {"at": 4})
    assert await store.events.delete_before(3) == 3
    assert [event.kind for event in await store.events.list()] == ["k3", "k4"]


async def test_of_several_who_set_a_fact_once_all_get_the_first_ones(store: Store) -> None:
    assert await store.meta.get("owner") is None
    answers = await asyncio.gather(*(store.meta.set_once("owner", name) for name in ("ada", "bob", "eve")))
    assert answers == ["ada", "ada", "ada"]
    await store.meta.set("owner", "bob")
    assert await store.meta.get("owner") == "bob"


# --- what only a database on disk can show

WRITER = """
import asyncio, sys
from pathlib import Path
from roost.core.stages import ColdStart
from roost.kit.clock import SystemClock
from roost.store import Store

async def main():
    store = await Store.open(Path(sys.argv[1]), SystemClock())

    async def write(n):
        for i in range(10**9):
            await store.meta.set(f"{n}-{i}", "x")
            print(f"{n}-{i}", flush=True)

    await asyncio.gather(*(write(n) for n in range(8)))

asyncio.run(main())
"""


async def test_kill_9_loses_no_row_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "roost.db"
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, str(path), stdout=asyncio.subprocess.PIPE)
    assert writer.stdout is not None
    acknowledged = [await writer.stdout.readline() for _ in range(300)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += (await writer.stdout.read()).splitlines(keepends=True)
    assert await writer.wait() == -signal.SIGKILL

    store = await Store.open(path, SystemClock())
    keys = [line.decode().strip() for line in acknowledged if line.endswith(b"\n")]
    assert len(keys) >= 300
    assert [key for key in keys if await store.meta.get(key) is None] == []
    await store.close()


async def test_a_second_opener_of_the_file_is_slow_and_not_harmful(tmp_path: Path) -> None:
    one, two = await asyncio.gather(*(Store.open(tmp_path / "roost.db", SystemClock()) for _ in range(2)))
    await asyncio.gather(*(store.meta.set(f"{n}", "x") for n in range(8) for store in (one, two)))
    assert await one.meta.set_once("owner", "ada") == await two.meta.set_once("owner", "bob") == "ada"
    await one.close()
    assert await two.meta.get("7") == "x"
    await two.close()


async def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "roost.db", SystemClock())
    await store.revisions.create(a_revision())
    await store.apps.point(an_alias())
    await store.close()
    store = await Store.open(tmp_path / "roost.db", SystemClock())
    assert await store.apps.get("ada", "painter") == an_alias()
    assert await store.revisions.get("rev-1") == a_revision()
    await store.close()
