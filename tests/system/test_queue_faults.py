"""What is accepted is never lost: the queue under kills, store trouble and misbehaving handlers. Every test ends in the history checker.

The numbers are those of faults.md, which each docstring names. ROOST_LONG=1 (`make soak`) runs the long versions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.histories.check import check, counts, runs_of
from tests.histories.history import History, read
from tests.soak.load import Job, Load, Outcome
from tests.soak.nemesis import again_and_again, kill_server
from tests.soak.sweep import Strike, Target, deploy, target
from tests.system.conftest import MakeRoost
from tests.system.roosts import Roost, until
from tests.system.trees import alive

LONG = os.environ.get("ROOST_LONG") == "1"
LOAD_S, RATE = (300, 50) if LONG else (6, 40)
RUNNERS_S = 120 if LONG else 6
ANYTHING_S = 120 if LONG else 8
STOPPED_S = 30 if LONG else 2
DURATIONS_MS = (5, 20, 80, 500)


@pytest.fixture(scope="module")
def struck(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Target]:
    """A server that is struck by test after test, with failpoints that can be armed."""
    with target(tmp_path_factory.mktemp("struck-queue"), cache) as one:
        yield one


def proven(folder: Path) -> History:
    """The history in a folder, which holds what is promised."""
    history = read(folder)
    violations = check(history)
    assert not violations, "\n".join(map(str, violations[:20]))
    return history


def mixed(count: int) -> list[Job]:
    """Handlers of 5 to 500 ms, by turns on both apps."""
    return [Job(("recorder", "recorder-2")[n % 2], ms=DURATIONS_MS[n // 2 % 4]) for n in range(count)]


async def carried(load: Load, *jobs: Job) -> list[Outcome]:
    """These jobs at once, and what the server lists of them then."""
    outcomes = await load.carry(jobs, callers=len(jobs))
    await load.list_these({outcome.request for outcome in outcomes if outcome.request})
    return outcomes


def p99(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


# kill -9 of the server


async def test_kill_9_of_the_server_again_and_again_loses_nothing(struck: Target) -> None:
    """F-01: every request is final at most 30 s after the last kill; back in 2 s; submits meanwhile cost what they cost before."""
    folder = struck.folder / "f01"
    downs: list[tuple[float, float]] = []

    async def kill() -> None:
        took_s = await kill_server(struck.roost)
        downs.append((time.monotonic() - took_s, time.monotonic()))

    async with Load(struck.roost, folder) as load:
        calm = await load.at_rate(mixed(RATE * 3), RATE)
        work = asyncio.ensure_future(load.at_rate(mixed(RATE * LOAD_S), RATE))
        await again_and_again(kill, 5 if LONG else 2.5, asyncio.wait([work], timeout=LOAD_S))
        outcomes = await work
        await load.list_these({outcome.request for outcome in [*calm, *outcomes]})
    history = proven(folder)
    gaps = sorted(back_at - killed_at for killed_at, back_at in downs)
    settled_s = max(outcome.ended_at for outcome in outcomes) - downs[-1][0]
    up = [one.submit_s for one in outcomes if not any(down - 0.1 < one.submitted_at < back + 0.5 for down, back in downs)]
    print(
        f"\n{len(gaps)} kills -9 of the server under {RATE}/s: {counts(history)}; back after {gaps[0]:.2f} to {gaps[-1]:.2f} s (median "
        f"{gaps[len(gaps) // 2]:.2f}); all final {settled_s:.1f} s after the last kill; submit p99 {p99([one.submit_s for one in calm]) * 1000:.0f} ms "
        f"without kills, {p99(up) * 1000:.0f} ms between them"
    )
    assert len(gaps) >= LOAD_S // 5 - 2
    assert settled_s < 30
    assert gaps[len(gaps) // 2] < 4, "2 s on a machine of its own"


async def test_killed_between_the_commit_and_the_200_the_same_key_finds_the_same_request(struck: Target) -> None:
    """F-02: one row, one id, one run."""
    folder = struck.folder / "f02"
    async with Load(struck.roost, folder) as load:
        struck.arm(Strike("requests.submit_and_claim:after", "kill"))
        (outcome,) = await carried(load, Job())
        again = await load.carry([Job(key=outcome.job.key)], callers=1)
    history = proven(folder)
    assert outcome.submits > 1, "the first submit had no answer"
    assert again[0].request == outcome.request
    assert len(runs_of(history, outcome.request)) == 1


async def test_killed_at_points_of_every_stage_nothing_is_lost(struck: Target) -> None:
    """F-03, a handful of it: the whole sweep is in tests/soak."""
    points = ("requests.submit:inside", "requests.submit_and_claim:inside", "requests.claim:after", "payloads.keep:renamed")
    verdicts = [await struck.suffer(Strike(point, "kill")) for point in points]
    for verdict in verdicts:
        print(f"\n{verdict.strike}: hit {verdict.hit}, {verdict.counts}, {verdict.took_s:.1f} s", end="")
        assert verdict.hit and verdict.good, (str(verdict.strike), verdict.problems)


async def test_killed_after_the_result_was_stored_the_handler_does_not_run_again(struck: Target) -> None:
    """F-04: before the runner was told that its result was taken."""
    folder = struck.folder / "f04"
    async with Load(struck.roost, folder) as load:
        struck.arm(Strike("requests.finish:after", "kill"))
        (outcome,) = await carried(load, Job(ms=50))
    history = proven(folder)
    assert outcome.code == 200
    assert len(runs_of(history, outcome.request)) == 1


async def test_killed_in_a_group_commit_each_of_64_waiters_has_an_id_or_an_error(struck: Target) -> None:
    """F-05: no third outcome, and with the same keys all are one request each."""
    folder = struck.folder / "f05"
    async with Load(struck.roost, folder) as load:
        struck.arm(Strike("requests.submit:inside", "kill", visit=30))
        outcomes = await carried(load, *(Job(ms=5) for _ in range(64)))
    history = proven(folder)
    assert sum(outcome.submits > 1 for outcome in outcomes) > 0
    assert counts(history).accepted == 64


async def test_a_call_goes_on_over_kill_9_of_the_server_and_its_result_is_taken(struck: Target) -> None:
    """Runners that live on keep their calls: one attempt, one run."""
    folder = struck.folder / "resume"
    async with Load(struck.roost, folder) as load:
        work = asyncio.create_task(carried(load, *[Job(mood="gated")] * 4))
        await asyncio.to_thread(until, "all four run", lambda: counts(read(folder)).runs == 4)
        await kill_server(struck.roost)
        (folder / "go").touch()
        outcomes = await work
    history = proven(folder)
    assert [outcome.code for outcome in outcomes] == [200] * 4
    assert counts(history).again == 0


async def test_calls_that_end_while_no_server_is_there_are_kept_for_the_next(struck: Target) -> None:
    folder = struck.folder / "kept"
    async with Load(struck.roost, folder) as load:
        work = asyncio.create_task(carried(load, *[Job(mood="gated", answer_bytes=150_000)] * 3))
        await asyncio.to_thread(until, "all three run", lambda: counts(read(folder)).runs == 3)
        os.kill(await asyncio.to_thread(struck.roost.server_pid), signal.SIGKILL)
        (folder / "go").touch()
        outcomes = await work
    history = proven(folder)
    assert [outcome.code for outcome in outcomes] == [200] * 3
    assert counts(history).again == 0


async def test_a_server_that_was_stopped_for_a_while_goes_on_and_takes_nothing_away_from_living_runners(struck: Target) -> None:
    """F-06: SIGSTOP, with more time than a lease has in the long version; no attempt is taken for lost."""
    folder = struck.folder / "f06"
    async with Load(struck.roost, folder) as load:
        work = asyncio.create_task(carried(load, *[Job(mood="gated")] * 4))
        await asyncio.to_thread(until, "all four run", lambda: counts(read(folder)).runs == 4)
        server = await asyncio.to_thread(struck.roost.server_pid)
        os.kill(server, signal.SIGSTOP)
        try:
            await asyncio.sleep(STOPPED_S)
        finally:
            os.kill(server, signal.SIGCONT)
        await asyncio.sleep(1)
        (folder / "go").touch()
        outcomes = await work
    history = proven(folder)
    assert [(outcome.code, outcome.attempt) for outcome in outcomes] == [(200, 1)] * 4
    assert counts(history).again == 0


async def test_a_planned_restart_moves_calls_to_the_new_server(struck: Target) -> None:
    """ARCHITECTURE §1.3: planned change costs no request and no second run."""
    folder = struck.folder / "restart"
    async with Load(struck.roost, folder) as load:
        work = asyncio.create_task(load.at_rate(mixed(RATE * 6), RATE))
        await asyncio.sleep(1)
        await asyncio.to_thread(struck.roost.cli, "restart")
        outcomes = await work
        await load.list_these({outcome.request for outcome in outcomes})
    history = proven(folder)
    print(f"\nplanned restart under {RATE}/s: {counts(history)}")
    assert counts(history).again == 0
    assert all(outcome.code == 200 and outcome.submits == 1 for outcome in outcomes)


# store trouble


async def test_a_store_that_fails_one_write_in_twenty_never_says_yes_falsely(struck: Target) -> None:
    """F-30 and F-31: failed writes, and those that were done although the caller heard an error."""
    folder = struck.folder / "f31"
    draft = struck.folder / "plan.draft"
    draft.write_text("requests.*@2%=raise,payloads.*@2%=raise")
    async with Load(struck.roost, folder) as load:
        draft.rename(struck.plan)
        jobs = mixed(2000 if LONG else 200) + [Job(ms=5, answer_bytes=100_000) for _ in range(20)]
        outcomes = await load.carry(jobs, callers=20)
        # Disarmed: the server forgets its plan when it reads another.
        struck.arm(Strike("none", "raise"))
        await load.list_these({outcome.request for outcome in outcomes})
    history = proven(folder)
    print(f"\n2 % of all writes failed or lost their answer: {counts(history)}")
    assert counts(history).unknown > 0
    assert {outcome.code for outcome in outcomes} == {200}


async def test_a_damaged_row_ends_with_an_error_and_the_others_go_on(own_roost: MakeRoost, tmp_path: Path) -> None:
    """F-11."""
    roost = own_roost()
    await asyncio.to_thread(deploy, roost, tmp_path, ("Single",))
    folder = tmp_path / "f11"
    async with Load(roost, folder) as load, load.caller() as caller:
        deadline = time.monotonic() + 60
        jobs = [Job("single", mood="gated", key=f"gate-{n}") for n in range(4)]
        submitted = [(await caller.submit(job, deadline))[0] for job in jobs]
        await asyncio.to_thread(until, "the first one runs", lambda: counts(read(folder)).runs == 1)
        await asyncio.to_thread(roost.stop)
        database = sqlite3.connect(roost.home / "state" / "roost.db")
        database.execute("UPDATE requests SET rules = '{' WHERE id = ?", (submitted[2],))
        database.commit()
        database.close()
        (folder / "go").touch()
        await asyncio.to_thread(roost.start)
        outcomes = [await caller.carry(job) for job in jobs]
    assert [outcome.code for outcome in outcomes] == [200, 200, 500, 200]
    assert outcomes[2].error_type == "internal_error"


async def test_a_migration_that_is_killed_half_way_is_finished_by_the_next_start(tmp_path: Path, own_roost: MakeRoost) -> None:
    """F-12: no manual step."""
    plan = tmp_path / "plan"
    roost = own_roost(ROOST_FAILPOINTS_FILE=str(plan), ROOST_FAILPOINTS_LOG=str(tmp_path / "visited"))
    before = roost.key
    await asyncio.to_thread(roost.stop)
    database = sqlite3.connect(roost.home / "state" / "roost.db")
    # As a server of the version before the queue left it.
    gone = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%REFERENCES requests%'")]
    for table in [*gone, "releases", "webhook_tries", "webhooks", "request_events", "inputs", "outputs", "attempts", "requests"]:
        database.execute(f"DROP TABLE IF EXISTS {table}")
    database.execute("ALTER TABLE runners DROP COLUMN cold_start")
    database.execute("DELETE FROM migrations WHERE version >= 2")
    database.commit()
    database.close()
    plan.write_text("migrate.apply:inside@2=kill")
    await asyncio.to_thread(roost.start)
    assert "migrate.apply:inside=kill" in (tmp_path / "visited").read_text()
    assert roost.key == before
    assert roost.api("GET", f"/v1/requests?app={roost.owner}/none") == {"requests": []}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The state folder of the first `own_roost`, on a file system of 24 MB; its environments lie elsewhere."""
    if os.geteuid() != 0:
        why = "mounting a small file system takes root: run the tests as root, or in a container"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    state = tmp_path / "roost-0" / "state"
    state.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", str(state)], check=True)
    (tmp_path / "envs").mkdir()
    (state / "envs").symlink_to(tmp_path / "envs")
    yield state
    subprocess.run(["umount", str(state)], check=True)


async def test_a_full_disk_stops_accepts_and_loses_nothing(small_disk: Path, own_roost: MakeRoost, tmp_path: Path) -> None:
    """F-32: 507 or 503 while it is full, resumed in 10 s, and what had been accepted comes to its end."""
    roost = own_roost()
    await asyncio.to_thread(deploy, roost, tmp_path, ("Recorder",))
    folder = tmp_path / "f32"
    async with Load(roost, folder) as load:
        before = asyncio.create_task(load.carry([Job(mood="gated")] * 4, callers=4))
        await asyncio.to_thread(until, "they run", lambda: counts(read(folder)).runs == 4)
        ballast = small_disk / "ballast"
        fill(ballast)
        # Handlers end while nothing can be written: their results wait for the disk.
        (folder / "go").touch()
        refused = await refusals(roost, 60 if LONG else 3)
        during = asyncio.create_task(load.carry([Job()] * 10, callers=10))
        await asyncio.sleep(0.5)
        ballast.unlink()
        freed_at = time.monotonic()
        outcomes = await before + await during
        resumed_s = time.monotonic() - freed_at
        await load.list_these({outcome.request for outcome in outcomes})
    history = proven(folder)
    print(f"\nfull disk: refused with {sorted(refused)}; all done {resumed_s:.1f} s after there was room again: {counts(history)}")
    assert refused and refused <= {503, 507}
    assert resumed_s < 10
    assert {outcome.code for outcome in outcomes} == {200}


def fill(ballast: Path) -> None:
    """Take all that is left on its file system."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 65536):
            pass
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while file.write(b"x" * 512):
            pass


async def refusals(roost: Roost, seconds: float) -> set[int]:
    """The statuses of submits that were refused, each with a word on when to come back."""
    seen: set[int] = set()
    deadline = time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=roost.url, headers=roost.auth, timeout=20) as client:
        while time.monotonic() < deadline:
            answer = await client.post(f"/_queue/{roost.owner}/recorder", json={"key": "", "padding": "x" * 20_000})
            if answer.status_code != 200:
                assert "retry-after" in answer.headers, answer.text
                seen.add(answer.status_code)
            await asyncio.sleep(0.1)
    return seen


# runners that die, hang or lie


async def test_kill_9_of_runners_again_and_again_loses_nothing(struck: Target) -> None:
    """F-13: a runner every 2 s; its requests wait for another at most a second longer than their back-off."""
    folder = struck.folder / "f13"
    dice = random.Random(13)
    killed: list[int] = []

    async def kill_a_runner() -> None:
        runners = [one for app in ("recorder", "recorder-2") for one in await asyncio.to_thread(struck.roost.runners, app)]
        living = [one["pid"] for one in runners if one["pid"]]
        if living:
            killed.append(dice.choice(living))
            os.kill(killed[-1], signal.SIGKILL)

    async with Load(struck.roost, folder) as load:
        work = asyncio.ensure_future(load.at_rate(mixed(RATE * RUNNERS_S), RATE))
        await again_and_again(kill_a_runner, 2, asyncio.wait([work], timeout=RUNNERS_S))
        outcomes = await work
        await load.list_these({outcome.request for outcome in outcomes})
    history = proven(folder)
    print(f"\n{len(killed)} kills -9 of runners under {RATE}/s: {counts(history)}, codes {sorted({one.code for one in outcomes})}")
    assert counts(history).again > 0
    # Whoever was in three deaths is parked (F-16), with an error that says so: by chance that is one in ten thousand.
    parked = [outcome for outcome in outcomes if outcome.code != 200]
    assert all(outcome.error_type == "runner_disconnected" and len(runs_of(history, outcome.request)) == 3 for outcome in parked), parked
    assert len(parked) <= len(outcomes) // 1000


def varied(count: int, dice: random.Random) -> Iterator[Job]:
    """Everything that a caller may want, by chance."""
    for _ in range(count):
        job = Job(dice.choice(("recorder", "recorder-2", "recorder", "recorder-2", "single")), ms=dice.choice(DURATIONS_MS[:3]))
        match dice.randrange(12):
            case 0:
                yield replace(job, input_bytes=100_000, answer_bytes=100_000)
            case 1:
                yield replace(job, cancel_after_s=dice.choice((0, 0.05, 0.5)))
            case 2:
                yield replace(job, mood="again", answer_bytes=dice.choice((0, 100_000)))
            case 3:
                yield replace(job, mood="patient", cancel_after_s=dice.choice((0, 0.3)))
            case 4:
                yield replace(job, headers=(("x-fal-request-timeout", "1.5"),))
            case 5:
                yield replace(job, headers=(("x-fal-queue-priority", "low"), ("x-fal-store-io", "0")))
            case _:
                yield job


@pytest.mark.parametrize("seed", range(3 if LONG else 1))
async def test_whatever_happens_in_whatever_order_the_promises_hold(struck: Target, seed: int) -> None:
    """Kills of servers and runners, planned restarts, failing writes and broken connections, while callers want everything at once."""
    folder, dice = struck.folder / f"anything-{seed}", random.Random(seed)
    happened: list[str] = []

    async def something() -> None:
        kind = dice.choice(("kill server", "kill server", "kill runner", "kill runner", "restart", "writes fail", "links break"))
        happened.append(kind)
        if kind == "kill server":
            await kill_server(struck.roost)
        elif kind == "kill runner":
            runners = [one for app in ("recorder", "recorder-2", "single") for one in await asyncio.to_thread(struck.roost.runners, app)]
            with contextlib.suppress(OSError):
                os.kill(dice.choice([one["pid"] for one in runners if one["pid"]]), signal.SIGKILL)
        elif kind == "restart":
            await asyncio.to_thread(struck.roost.cli, "restart", code=None)
        else:
            draft = struck.folder / "plan.draft"
            draft.write_text("requests.*@3%=raise,payloads.*@3%=raise" if kind == "writes fail" else "link.*@0.5%=raise")
            draft.rename(struck.plan)

    async with Load(struck.roost, folder) as load:
        rate = RATE / 2
        work = asyncio.ensure_future(load.at_rate(varied(round(rate * ANYTHING_S), dice), rate))
        await again_and_again(something, 1.5, asyncio.wait([work], timeout=ANYTHING_S))
        struck.arm(Strike("none", "raise"))
        outcomes = await work
        await load.list_these({outcome.request for outcome in outcomes})
    history = proven(folder)
    print(f"\n{len(happened)} misfortunes: {counts(history)}, codes {sorted({one.code for one in outcomes})}")


@pytest.mark.parametrize(("mood", "named"), [("dies", "exited with code 1"), ("segfaults", "signal 11"), ("aborts", "signal 6")])
async def test_a_handler_that_ends_its_runner_is_named_counted_and_tried_again(struck: Target, mood: str, named: str) -> None:
    """F-14."""
    folder = struck.folder / f"f14-{mood}"
    async with Load(struck.roost, folder) as load, load.caller() as caller:
        (outcome,) = await carried(load, Job(mood=mood))
        attempts = (await caller.look(f"/v1/requests/{outcome.request}"))["attempts"]
    proven(folder)
    assert (outcome.code, outcome.attempt) == (200, 2)
    assert named in attempts[0]["outcome"], attempts


async def test_a_request_that_kills_every_runner_is_parked_after_three_deaths_and_the_others_are_fine(struck: Target) -> None:
    """F-16: at most 5 runners started for it."""
    folder = struck.folder / "f16"
    before = await asyncio.to_thread(struck.roost.api, "GET", "/v1/runners?since=0")
    async with Load(struck.roost, folder) as load:
        poison, *others = await carried(load, Job("recorder-2", mood="dies-always", ms=50), *mixed(60))
        async with load.caller() as caller:
            attempts = (await caller.look(f"/v1/requests/{poison.request}"))["attempts"]
    history = proven(folder)
    started = (await asyncio.to_thread(struck.roost.api, "GET", "/v1/runners?since=0"))["runners"]
    new = {one["runner_id"] for one in started} - {one["runner_id"] for one in before["runners"]}
    print(f"\npoison: {poison.code} {poison.error_type} after {len(runs_of(history, poison.request))} runs; {len(new)} runners started")
    assert poison.code >= 500 and poison.error_type == "runner_disconnected"
    assert len(runs_of(history, poison.request)) == 3, attempts
    assert {outcome.code for outcome in others} == {200}
    assert len(new) <= 5


async def test_a_handler_that_blocks_its_loop_is_cut_by_request_timeout(struck: Target) -> None:
    """F-17: it is busy, not dead, until its time is up."""
    folder = struck.folder / "f17"
    async with Load(struck.roost, folder) as load:
        began = time.monotonic()
        (outcome,) = await carried(load, Job("impatient-recorder", mood="blocks", ms=60_000))
    proven(folder)
    assert (outcome.code, outcome.error_type) == (504, "request_timeout")
    assert 2 <= time.monotonic() - began < 6


async def test_work_of_a_stopped_runner_is_done_by_another_and_its_late_result_changes_nothing(struck: Target) -> None:
    """F-19: SIGSTOP; the lease is 10 s."""
    folder = struck.folder / "f19"
    async with Load(struck.roost, folder) as load:
        work = asyncio.create_task(carried(load, Job("recorder", mood="gated")))
        await asyncio.to_thread(until, "it runs", lambda: counts(read(folder)).runs == 1)
        runs = [json.loads(line) for path in folder.glob("handler-*.jsonl") for line in path.read_text().splitlines()]
        (pid,) = [int(path.stem.partition("-")[2]) for path in folder.glob("handler-*.jsonl")]
        assert len(runs) == 1
        os.kill(pid, signal.SIGSTOP)
        stopped_at = time.monotonic()
        try:
            await asyncio.to_thread(until, "another attempt runs", lambda: counts(read(folder)).runs == 2, 40)
            retaken_s = time.monotonic() - stopped_at
            (folder / "go").touch()
            (outcome,) = await work
        finally:
            if alive(pid):
                os.kill(pid, signal.SIGCONT)
        woken_at = time.monotonic()
        await asyncio.to_thread(until, "the zombie ends by itself", lambda: not alive(pid), 15)
        ended_s = time.monotonic() - woken_at
        async with load.caller() as caller:
            await caller.carry(outcome.job)
    proven(folder)
    print(f"\nSIGSTOP: retaken after {retaken_s:.1f} s, the zombie ended {ended_s:.1f} s after it woke")
    assert (outcome.code, outcome.attempt) == (200, 2)
    assert retaken_s < 20


# keys, deadlines, long queues


async def test_a_hundred_submits_with_one_key_and_a_kill_in_between_are_one_request(struck: Target) -> None:
    """F-78; another body with the same key is refused."""
    folder = struck.folder / "f78"
    async with Load(struck.roost, folder) as load, load.caller() as caller:
        struck.arm(Strike("requests.submit:after", "kill", visit=20))
        outcomes = await carried(load, *(Job(key="one-key", ms=20) for _ in range(100)))
        refused = await caller.carry(Job(key="one-key", ms=21))
    history = proven(folder)
    assert len({outcome.request for outcome in outcomes}) == 1
    assert counts(history).runs == 1
    assert (refused.request, refused.code) == ("", 422)


async def test_requests_whose_start_deadline_passes_end_without_running(struck: Target) -> None:
    """F-90: executions of expired requests: 0."""
    folder = struck.folder / "f90"
    soon = (("x-fal-request-timeout", "0.5"),)
    async with Load(struck.roost, folder) as load:
        holder = asyncio.create_task(carried(load, Job("single", mood="gated")))
        await asyncio.to_thread(until, "the only slot is taken", lambda: counts(read(folder)).runs == 1)
        late = await carried(load, *(Job("single", headers=soon) for _ in range(20)))
        (folder / "go").touch()
        await holder
    history = proven(folder)
    assert {(outcome.code, outcome.error_type) for outcome in late} == {(504, "request_timeout")}
    assert counts(history).runs == 1
