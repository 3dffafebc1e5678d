from __future__ import annotations

import pytest

from roost.core.model import Alias, Scale
from roost.gateway.resolve import Routes, split
from roost.wire.errors import RoostError


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/me/app", ("me", "app", b"/")),
        (b"/me/app/", ("me", "app", b"/")),
        (b"/me/app/predict", ("me", "app", b"/predict")),
        (b"/me/app//a%2Fb/", ("me", "app", b"//a%2Fb/")),
        (b"/m%65/app/x", ("me", "app", b"/x")),
        (b"/workflows/me/app/x", ("workflows/me", "app", b"/x")),
        (b"/comfy/me/app", ("comfy/me", "app", b"/")),
        (b"/123-some-app", ("123", "some-app", b"/")),
        (b"/me", ("me", "", b"/")),
    ],
)
def test_a_path_names_an_owner_an_app_and_the_rest(path: bytes, expected: tuple[str, str, bytes]) -> None:
    assert split(path) == expected


def alias(name: str, revision_id: str | None) -> Alias:
    return Alias("me", name, "main", revision_id, "public", Scale(), False, None, 0, 0)


async def test_an_app_that_is_new_is_found_by_asking_once() -> None:
    aliases: list[Alias] = []
    asked: list[int] = []

    async def load() -> list[Alias]:
        asked.append(len(aliases))
        return aliases

    routes = Routes(load)
    with pytest.raises(RoostError, match='"me/app" not found'):
        await routes.resolve(b"/me/app")
    aliases.append(alias("app", "r1"))
    assert (await routes.resolve(b"/me/app")).route.revision_id == "r1"
    await routes.resolve(b"/me/app")
    assert asked == [0, 1]


async def test_an_app_without_a_revision_is_not_there_yet() -> None:
    async def load() -> list[Alias]:
        return [alias("app", None)]

    with pytest.raises(RoostError, match="not found"):
        await Routes(load).resolve(b"/me/app")


async def test_a_switch_is_told_once() -> None:
    aliases = [alias("app", "r1")]

    async def load() -> list[Alias]:
        return aliases

    routes = Routes(load)
    told: list[str] = []
    routes.on_switch = lambda route: told.append(route.revision_id)
    await routes.refresh()
    await routes.refresh()
    aliases[:] = [alias("app", "r2")]
    await routes.refresh()
    assert told == ["r1", "r2"]
    assert routes.of_revision("r1") is None and routes.of_revision("r2") is not None
