"""What every builder must do. Real builds with the real uv, of packages made here: nothing is downloaded."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost.builders.base import Builder, BuildError, BuildInterrupted, BuildSettings
from tests import packages
from tests.workshop import NEVER_DONE, Listener, Workshop, ignore, leave, recipe


@pytest.fixture
async def workshop(tmp_path: Path) -> AsyncIterator[Workshop]:
    workshop = Workshop.make(tmp_path)
    yield workshop
    await workshop.spawner.close()


@pytest.fixture
def builder(workshop: Workshop) -> Builder:
    return workshop.builder()


def python(builder: Builder, key: str, code: str) -> str:
    return subprocess.run([builder.path(key) / "bin" / "python", "-c", code], check=True, capture_output=True, text=True).stdout.strip()


async def test_a_built_environment_imports_what_was_asked_for_and_says_what_is_in_it(workshop: Workshop, builder: Builder) -> None:
    packages.wheel(workshop.wheels, "bee", requires=("honey>=2",))
    packages.wheel(workshop.wheels, "honey", "2.5")
    built = await builder.build("k1", recipe(("bee",)), ignore)
    assert built.packages == ("bee==1.0", "honey==2.5")
    assert built.size_bytes > 0 and built.build_ms > 0
    assert python(builder, "k1", "import bee, honey; print(bee.VERSION, honey.VERSION)") == "1.0 2.5"
    assert builder.exists("k1") and builder.keys() == {"k1"}
    assert workshop.left_over() == []


async def test_an_environment_of_pins_only_has_the_pins(workshop: Workshop, builder: Builder) -> None:
    packages.wheel(workshop.wheels, "bee", "1.0")
    packages.wheel(workshop.wheels, "bee", "2.0")
    assert (await builder.build("base", recipe(pins=("bee==1.0",)), ignore)).packages == ("bee==1.0",)


async def test_modules_are_compiled_and_work_after_the_rename(workshop: Workshop, builder: Builder) -> None:
    packages.wheel(workshop.wheels, "bee")
    packages.wheel(workshop.wheels, "honey")
    await builder.build("k1", recipe(("bee",), ("honey",)), ignore)
    # Looked for before the first import, which would write it.
    assert len(list(builder.path("k1").glob("lib/python*/site-packages/*/__pycache__/__init__.*.pyc"))) == 2
    origin = python(builder, "k1", "import bee, honey; print(bee.__file__)")
    assert Path(origin).is_relative_to(builder.path("k1"))


async def test_two_environments_share_the_files_of_a_package(workshop: Workshop, builder: Builder) -> None:
    packages.wheel(workshop.wheels, "bee")
    for key in ("k1", "k2"):
        await builder.build(key, recipe(("bee",)), ignore)
    one, two = (Path(python(builder, key, "import bee; print(bee.__file__)")).stat() for key in ("k1", "k2"))
    assert one.st_ino == two.st_ino


async def test_an_environment_that_is_there_is_not_built_again(workshop: Workshop, builder: Builder) -> None:
    packages.wheel(workshop.wheels, "bee")
    first = await builder.build("k1", recipe(("bee",)), ignore)
    listener = Listener()
    assert await builder.build("k1", recipe(("bee",)), listener) == first
    assert listener.lines == []


async def test_force_builds_anew_and_keeps_the_old_one_when_that_fails(workshop: Workshop, builder: Builder) -> None:
    packages.wheel(workshop.wheels, "bee", "1.0")
    await builder.build("k1", recipe(("bee",)), ignore)
    packages.wheel(workshop.wheels, "bee", "2.0")
    assert (await builder.build("k1", recipe(("bee",)), ignore, force=True)).packages == ("bee==2.0",)
    with pytest.raises(BuildError):
        await builder.build("k1", recipe(("wasp",)), ignore, force=True)
    assert python(builder, "k1", "import bee; print(bee.VERSION)") == "2.0"
    assert workshop.left_over() == []


async def test_two_askers_share_one_build_and_both_see_all_of_it(workshop: Workshop, builder: Builder) -> None:
    packages.wheel(workshop.wheels, "bee")
    early, late = Listener(), Listener()
    first = asyncio.create_task(builder.build("k1", recipe(("bee",)), early))
    await early.hears("Installing")
    second = asyncio.create_task(builder.build("k1", recipe(("bee",)), late))
    assert await first is await second
    assert early.lines == late.lines
    assert sum("Creating an environment" in line for line in early.lines) == 1


async def test_two_askers_share_one_failure(builder: Builder) -> None:
    ends = await asyncio.gather(*(builder.build("k1", recipe(("wasp",)), ignore) for _ in range(2)), return_exceptions=True)
    assert isinstance(ends[0], BuildError) and ends[0] is ends[1]


async def test_a_later_layer_keeps_what_an_earlier_one_installed(workshop: Workshop, builder: Builder) -> None:
    for version in ("1.0", "2.0"):
        packages.wheel(workshop.wheels, "honey", version)
    packages.wheel(workshop.wheels, "bee", requires=("honey",))
    assert "honey==1.0" in (await builder.build("k1", recipe(("honey<2",), ("bee",)), ignore)).packages
    with pytest.raises(BuildError) as failure:
        await builder.build("k2", recipe(("honey<2",), ("honey>=2",)), ignore)
    assert "honey==1.0" in failure.value.detail and "honey>=2" in failure.value.detail
    assert "earlier layers" in failure.value.hint


async def test_a_requirement_against_a_pin_names_both_versions_and_the_fix(workshop: Workshop, builder: Builder) -> None:
    for version in ("1.0", "2.0"):
        packages.wheel(workshop.wheels, "honey", version)
    packages.wheel(workshop.wheels, "bee", requires=("honey>=2",))
    with pytest.raises(BuildError) as failure:
        await builder.build("k1", recipe(("bee",), pins=("honey==1.0",)), ignore)
    assert "honey>=2" in failure.value.detail and "honey==1.0" in failure.value.detail
    assert "author's own honey, here 1.0" in failure.value.hint


async def test_a_package_that_does_not_exist_says_so_and_leaves_nothing(workshop: Workshop, builder: Builder) -> None:
    with pytest.raises(BuildError) as failure:
        await builder.build("k1", recipe(("wasp",)), ignore)
    assert "wasp was not found" in failure.value.detail
    assert "spelling" in failure.value.hint
    assert not builder.exists("k1") and workshop.left_over() == []
    assert "wasp was not found" in builder.log("k1")


async def test_a_python_that_is_not_there_says_what_to_install(builder: Builder) -> None:
    with pytest.raises(BuildError) as failure:
        await builder.build("k1", recipe(python="3.99"), ignore)
    assert "3.99" in failure.value.detail and "No interpreter found" in failure.value.detail
    assert "python3.99" in failure.value.hint and "python_downloads" in failure.value.hint


@pytest.mark.parametrize(("version", "told"), [("3.9", "too old"), ("3", "not a Python version"), ("three.one", "not a Python version")])
async def test_a_python_that_no_runner_can_have_is_refused_before_anything_is_made(builder: Builder, version: str, told: str) -> None:
    with pytest.raises(BuildError, match=told):
        await builder.build("k1", recipe(python=version), ignore)


async def test_a_killed_build_is_an_error_and_is_never_used(workshop: Workshop, builder: Builder) -> None:
    packages.source(workshop.wheels, "slow", NEVER_DONE)
    listener = Listener()
    build = asyncio.create_task(builder.build("k1", recipe(("slow",)), listener))
    await listener.hears("Building slow")
    (uv,) = await workshop.spawner.living()
    os.kill(uv.pid, signal.SIGKILL)
    with pytest.raises(BuildInterrupted, match="killed"):
        await build
    assert not builder.exists("k1") and workshop.left_over() == []


async def test_the_last_asker_to_leave_ends_the_build(workshop: Workshop, builder: Builder) -> None:
    packages.source(workshop.wheels, "slow", NEVER_DONE)
    listeners = Listener(), Listener()
    first, second = (asyncio.create_task(builder.build("k1", recipe(("slow",)), listener)) for listener in listeners)
    await listeners[1].hears("Building slow")
    await leave(first)
    assert await workshop.spawner.living()
    await leave(second)
    await builder.stop()
    assert await workshop.spawner.living() == []
    assert not builder.exists("k1") and workshop.left_over() == []


async def test_who_asks_while_an_abandoned_build_is_cleared_away_gets_a_new_one(workshop: Workshop, builder: Builder) -> None:
    packages.source(workshop.wheels, "slow", NEVER_DONE)
    packages.wheel(workshop.wheels, "bee")
    listener = Listener()
    first = asyncio.create_task(builder.build("k1", recipe(("slow",)), listener))
    await listener.hears("Building slow")
    await leave(first)
    assert (await builder.build("k1", recipe(("bee",)), ignore)).packages == ("bee==1.0",)


async def test_stop_tells_those_who_wait(workshop: Workshop, builder: Builder) -> None:
    packages.source(workshop.wheels, "slow", NEVER_DONE)
    listener = Listener()
    build = asyncio.create_task(builder.build("k1", recipe(("slow",)), listener))
    await listener.hears("Building slow")
    await builder.stop()
    with pytest.raises(BuildInterrupted, match="server stopped"):
        await build
    assert await workshop.spawner.living() == [] and workshop.left_over() == []


async def test_a_build_that_takes_too_long_has_failed(workshop: Workshop) -> None:
    packages.source(workshop.wheels, "slow", NEVER_DONE)
    builder = workshop.builder(BuildSettings(find_links=(str(workshop.wheels),), time_limit_ms=1))
    with pytest.raises(BuildError, match="not ready after"):
        await builder.build("k1", recipe(("slow",)), ignore)
    assert workshop.left_over() == []


async def test_what_an_interrupted_build_left_is_swept(workshop: Workshop, builder: Builder) -> None:
    await builder.build("k1", recipe(), ignore)
    for name in (".building-k2-7", ".removing-k3-8"):
        (workshop.envs / name / "venv").mkdir(parents=True)
    assert builder.keys() == {"k1"}
    await builder.sweep()
    assert workshop.left_over() == [] and builder.exists("k1")


async def test_a_removed_environment_is_gone_and_its_bytes_are_told(workshop: Workshop, builder: Builder) -> None:
    packages.wheel(workshop.wheels, "bee")
    await builder.build("k1", recipe(("bee",)), ignore)
    assert await builder.remove("k1") > 0
    assert not builder.exists("k1") and workshop.left_over() == []
    assert await builder.remove("k1") == 0


async def test_trim_removes_the_downloads_and_later_builds_still_work(workshop: Workshop, builder: Builder) -> None:
    packages.wheel(workshop.wheels, "bee")
    await builder.build("k1", recipe(("bee",)), ignore)
    assert await builder.trim() > 0
    assert python(builder, "k1", "import bee; print(bee.VERSION)") == "1.0"
    assert (await builder.build("k2", recipe(("bee",)), ignore)).packages == ("bee==1.0",)


async def test_a_failed_compilation_says_which_package_needs_what(workshop: Workshop, builder: Builder) -> None:
    packages.source(workshop.wheels, "broken", "def build_wheel(*args, **kwargs):\n    raise SystemExit('no frobnicator.h')\n")
    with pytest.raises(BuildError) as failure:
        await builder.build("k1", recipe(("broken",)), ignore)
    assert "no frobnicator.h" in failure.value.detail
    assert "wheel" in failure.value.hint


async def test_an_unreadable_requirement_is_shown_with_its_own_words(builder: Builder) -> None:
    with pytest.raises(BuildError) as failure:
        await builder.build("k1", recipe(("not a requirement",)), ignore)
    assert "not a requirement" in failure.value.detail and "`layer-1.txt`" in failure.value.detail
    assert "requirements.txt" in failure.value.hint


async def test_a_wheel_by_its_address_and_an_option_are_taken_as_in_a_requirements_file(workshop: Workshop) -> None:
    elsewhere = workshop.root / "elsewhere"
    direct = packages.wheel(workshop.wheels, "bee")
    packages.wheel(elsewhere, "honey", "3.0rc1")
    builder = workshop.builder(BuildSettings())
    layer = (f"bee @ {direct.as_uri()}", f"--find-links {elsewhere.as_uri()}", "--pre", "honey")
    assert (await builder.build("k1", recipe(layer, ("bee",)), ignore)).packages == ("bee==1.0", "honey==3.0rc1")


async def test_credentials_are_in_no_line_no_log_and_no_error(workshop: Workshop) -> None:
    listener = Listener()
    builder = workshop.builder(BuildSettings(), UV_INDEX_PRIVATE_PASSWORD="tiger-7", UV_HTTP_RETRIES="0")
    layer = ("bee @ http://tom:s3cret@127.0.0.1:1/bee-1.0-py3-none-any.whl?token=hush", "x${UV_INDEX_PRIVATE_PASSWORD}==1")
    with pytest.raises(BuildError) as failure:
        await builder.build("k1", recipe(layer), listener)
    told = "\n".join([*listener.lines, builder.log("k1"), failure.value.detail, failure.value.hint])
    assert "127.0.0.1" in told
    assert not any(secret in told for secret in ("s3cret", "hush", "tom", "tiger-7"))


async def test_a_network_that_is_away_is_tried_once_more_with_what_was_downloaded(workshop: Workshop) -> None:
    listener = Listener()
    builder = workshop.builder(BuildSettings(), UV_HTTP_RETRIES="0")
    with pytest.raises(BuildError) as failure:
        await builder.build("k1", recipe(("bee @ http://127.0.0.1:1/bee-1.0-py3-none-any.whl",)), listener)
    assert sum("--offline" in line for line in listener.lines) == 1
    assert "cannot be reached" in failure.value.hint and "Connection refused" in failure.value.detail
