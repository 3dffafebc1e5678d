"""preload(): once, before setup(), and never on an event loop of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import roost
from roost.sdk.app import create, forget
from roost.sdk.lifecycle import run_preload, run_setup
from roost.sdk.local import runner_environment


@pytest.fixture(autouse=True)
def an_environment_that_is_put_back() -> Iterator[None]:
    with runner_environment():
        yield


class Loads(roost.App):
    def preload(self) -> None:
        self.seen = [*getattr(self, "seen", []), "preload"]

    def setup(self) -> None:
        self.seen.append("setup")


@pytest.fixture
def app() -> Iterator[Loads]:
    made = create(Loads)
    yield made
    forget(made)


async def test_setup_finds_what_preload_made(app: Loads) -> None:
    await run_setup(app)
    assert app.seen == ["preload", "setup"]


async def test_a_preload_that_a_template_has_run_is_not_run_again(app: Loads) -> None:
    run_preload(app)
    await run_setup(app)
    assert app.seen == ["preload", "setup"]


def test_a_preload_that_must_be_awaited_is_an_error_of_the_class() -> None:
    with pytest.raises(ValueError, match=r"Late\.preload\(\) must be a plain `def`.*belongs in setup\(\)"):

        class Late(roost.App):
            async def preload(self) -> None: ...  # type: ignore[override]


def test_a_local_client_preloads_too() -> None:
    class Counts(roost.App):
        def preload(self) -> None:
            self.weights = [1, 2, 3]

        @roost.endpoint("/")
        def total(self) -> dict[str, int]:
            return {"total": sum(self.weights)}

    with roost.AppClient.local(Counts) as client:
        assert client.total({}) == {"total": 6}
