"""The control client and this API, wired to each other: what one says, the other understands."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from roost.client.config import Target
from roost.control import deploy as control
from roost.control.api import Api
from roost.control.errors import ControlError
from roost.control.events import Accepted, Done, Event, LogLine, Ready, Step, parse
from roost.control.logs import once
from roost.core.model import RunnerState
from roost.wire.manifest import Manifest
from tests.unit.api.world import ADMIN, PICKLE, SECRET, URL, VERSION, World, spec_of


class Bridge(httpx.BaseTransport):
    """From a thread's blocking client to an ASGI app on the test's loop. Streams arrive while they are open."""

    def __init__(self, world: World, loop: asyncio.AbstractEventLoop) -> None:
        self._world = world
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(self._handle(request, request.read()), self._loop).result(10)

    async def _handle(self, request: httpx.Request, body: bytes) -> httpx.Response:
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        inbox.put_nowait({"type": "http.request", "body": body, "more_body": False})
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        path, _, query = request.url.raw_path.partition(b"?")
        scope = {
            "type": "http",
            "method": request.method,
            "path": path.decode(),
            "raw_path": path,
            "query_string": query,
            "headers": headers,
        }
        task = asyncio.ensure_future(self._world.asgi(scope, inbox.get, outbox.put))  # type: ignore[arg-type]
        start = await outbox.get()
        return httpx.Response(start["status"], headers=start["headers"], stream=Body(self._loop, inbox, outbox, task))


class Body(httpx.SyncByteStream):
    def __init__(
        self, loop: asyncio.AbstractEventLoop, inbox: asyncio.Queue[Any], outbox: asyncio.Queue[Any], task: asyncio.Future[None]
    ) -> None:
        self._loop, self._inbox, self._outbox, self._task = loop, inbox, outbox, task

    def __iter__(self) -> Iterator[bytes]:
        while True:
            message = asyncio.run_coroutine_threadsafe(self._outbox.get(), self._loop).result(10)
            yield message.get("body", b"")
            if not message.get("more_body", False):
                return

    def close(self) -> None:
        async def hang_up() -> None:
            self._inbox.put_nowait({"type": "http.disconnect"})
            await self._task

        asyncio.run_coroutine_threadsafe(hang_up(), self._loop).result(10)


@pytest.fixture
async def client(world: World) -> Api:
    return Api(Target(URL, f"{ADMIN}:{SECRET}"), transport=Bridge(world, asyncio.get_running_loop()))


def manifest() -> Manifest:
    return Manifest(spec_of(), hashlib.sha256(PICKLE).hexdigest(), VERSION, {"openapi": "3.1.0"})


async def test_a_deploy_through_the_client(world: World, client: Api):
    events: list[Event] = []

    def author() -> None:
        with client:
            control.upload(client, manifest(), {manifest().pickle_sha256: PICKLE})
            for event in control.deploy(client, manifest(), auth=None):
                events.append(event)
                if isinstance(event, Accepted):
                    asyncio.run_coroutine_threadsafe(engines(event.revision_id), loop).result(10)

    async def engines(revision_id: str) -> None:
        await world.built(revision_id)
        await world.started(revision_id, "r1", RunnerState.SETUP)
        world.prints("r1", "setting up")
        await world.moved("r1", RunnerState.IDLE, ready_ms=world.clock.ms)
        await world.switched(revision_id)

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(author)
    assert [type(event) for event in events if not isinstance(event, Step)] == [Accepted, LogLine, Ready, Done]
    ready = next(event for event in events if isinstance(event, Ready))
    assert (ready.application, ready.auth, ready.endpoints[1].url) == ("ada/hello", "private", f"{URL}/ada/hello/other")


async def test_a_failure_is_the_clients_error(world: World, client: Api):
    def author() -> str:
        with client:
            control.upload(client, manifest(), {manifest().pickle_sha256: PICKLE})
            events = control.deploy(client, manifest(), auth=None)
            accepted = next(events)
            assert isinstance(accepted, Accepted)
            asyncio.run_coroutine_threadsafe(world.failed(accepted.revision_id, "no such package"), loop).result(10)
            with pytest.raises(ControlError) as caught:
                list(events)
            return f"{caught.value.code}: {caught.value.detail}"

    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(author) == "build_failed: no such package"


async def test_closing_a_run_and_ending_it_through_the_client(world: World, client: Api):
    def author() -> None:
        with client:
            control.upload(client, manifest(), {manifest().pickle_sha256: PICKLE})
            events = control.run(client, manifest(), auth="public", session="s")
            accepted = next(events)
            assert isinstance(accepted, Accepted)
            asyncio.run_coroutine_threadsafe(serve(accepted.revision_id), loop).result(10)
            while not isinstance(next(events), Ready):
                pass
            events.close()
            client.end_run(control.name_of(accepted))

    async def serve(revision_id: str) -> None:
        await world.built(revision_id)
        await world.switched(revision_id)

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(author)
    assert await world.store.apps.list() == ()


async def test_every_call_of_the_client_is_one_of_ours(world: World, client: Api):
    await world.app("hello")
    await world.runner("r1")
    world.prints("r1", "line")
    await world.store.environments.put_pending("k" * 32, world_recipe(), world.clock.ms)

    def author() -> None:
        with client:
            assert client.health()["status"] == "ok"
            assert client.whoami()["owner"] == "ada"
            assert client.doctor()
            assert client.apps()[0]["application"] == "ada/hello"
            assert client.app("ada/hello")["endpoints"] == ["/", "/other"]
            assert client.scale("ada/hello", {"keep_alive": 5})["keep_alive"] == 5
            assert [line.message for line in once(client.app_logs("ada/hello", lines=5))] == ["line"]
            assert [line.message for line in once(client.runner_logs("r1", since_ms=0))] == ["line"]
            assert client.runners("ada/hello", 0)[0]["runner_id"] == "r1"
            assert client.stop_runner("r1")["state"] == "DRAINING"
            assert client.kill_runner("r1")["state"] == "TERMINATING"
            made = client.create_key("ci", "API")
            listed = client.keys()
            assert made["key_id"] in [key["key_id"] for key in listed]
            client.revoke_key(made["key_id"])
            assert client.builds()[0]["state"] == "PENDING"
            assert client.build_log("k" * 32) == ""
            assert client.prune_builds(False)["freed_bytes"] == 123
            assert list(client.restart()) == [{"event": "restarting"}]
            assert client.delete_app("ada/hello") == "ada/hello"

    await asyncio.to_thread(author)


async def test_a_restart_is_no_line_of_a_followed_log(world: World, client: Api):
    await world.app("hello")
    await world.runner("r1")
    world.prints("r1", "line", at_ms=world.clock.ms)
    world.closing.set()

    def author() -> list[str]:
        with client:
            return [line.message for line in once(client.app_logs("ada/hello", follow=True))]

    assert await asyncio.to_thread(author) == ["line"]


@pytest.mark.parametrize("event", [{"event": "restarting"}, {"event": "something newer"}])
def test_what_an_older_client_does_not_know_is_passed_over(event: dict[str, Any]):
    assert parse(event) is None


def world_recipe() -> Any:
    from roost.core.model import Recipe

    return Recipe("3.11", (), ())
