"""The protocol between a server and its templates, over real processes and a real link, with the smallest server there can be."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from roost.builders.runtime import ensure_runtime
from roost.kit import linux
from roost.kit.process import LocalSpawner
from roost.kit.spawn import Exited, Spawn
from roost.link.directory import Directory
from roost.link.listener import Admitted, Listener
from roost.link.templates import TemplateLine
from roost.wire.launch import Hello, TemplateTicket, Ticket
from roost.wire.spec import AppSpec

TOKEN = "token"


class Server:
    """A listener, a spawner, and what templates said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = ensure_runtime(folder / "runtimes")
        self.spawner = LocalSpawner()
        self.spawner.subscribe("template", self._exited)
        self.ended: dict[str, asyncio.Future[Exited]] = {}
        self.lines: dict[str, TemplateLine] = {}
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.listener = Listener(Directory(), self._nobody, lambda runner_id, body: None, lambda: 0)
        self.listener.admit_template = lambda hello: "" if hello.token == TOKEN else "the launch token is wrong"
        self.listener.on_template = self._connected

    async def start_template(self, name: str = "template-" + "0" * 36, token: str = TOKEN) -> str:
        ticket = TemplateTicket(name, token, (f"unix:{self.folder / 'link'}",), 30_000)
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(self.runtime)}
        argv = (sys.executable, str(self.runtime / "roost-start.py"))
        self.ended[name] = asyncio.get_running_loop().create_future()
        await self.spawner.start(
            Spawn(name, "template", argv, environ, str(self.folder), ticket.to_json(), str(self.folder / f"{name}.log"))
        )
        return name

    async def hear(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.said.get(), 30)

    async def order(self, name: str, ticket: Ticket, number: int = 1, *, in_ms: float = 5_000, output: str | None = None) -> dict[str, Any]:
        until_ms = time.monotonic() * 1000 + in_ms
        written = output or str(self.folder / f"{ticket.runner_id}.log")
        body = {"op": "fork", "id": number, "ticket": json.loads(ticket.to_json()), "output": written, "until_ms": until_ms}
        self.lines[name].send(body)
        return await self.hear()

    def ticket(self, runner_id: str = "runner") -> Ticket:
        """Of a runner whose bundle is not there: it ends itself, as one that cannot load its class."""
        spec = AppSpec("app", "App", f"{sys.version_info.major}.{sys.version_info.minor}")
        return Ticket(runner_id, TOKEN, (f"unix:{self.folder / 'nobody'}",), str(self.folder / "bundle"), spec, "me/app", "revision")

    def _connected(self, template_id: str, line: TemplateLine) -> None:
        self.lines[template_id] = line
        line.on_said = self.said.put_nowait

    def _exited(self, exited: Exited) -> None:
        self.ended[exited.name].set_result(exited)

    async def _nobody(self, hello: Hello) -> Admitted | str:
        return "no runners here"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    linux.become_subreaper()
    made = Server(tmp_path)
    with socket.socket(socket.AF_UNIX) as link:
        link.bind(str(tmp_path / "link"))
        link.listen()
        link.setblocking(False)
        await made.listener.listen(link)
        try:
            yield made
        finally:
            made.listener.close()
            await made.spawner.close()
            linux.become_subreaper(False)


async def test_a_template_dials_home_says_that_it_is_ready_and_forks(server: Server) -> None:
    name = await server.start_template()
    ready = await server.hear()
    assert ready["op"] == "ready"
    answer = await server.order(name, server.ticket("r" * 36))
    assert answer["op"] == "forked"
    exits: asyncio.Future[Exited] = asyncio.get_running_loop().create_future()
    server.spawner.subscribe("runner", exits.set_result)
    await server.spawner.adopt("r" * 36, "runner", answer["pid"], 0)
    assert linux.stat(answer["pid"]).session == answer["pid"]  # type: ignore[union-attr]
    assert (await asyncio.wait_for(exits, 30)).code == 81, "its bundle is not there"


async def test_an_order_that_comes_too_late_is_not_carried_out(server: Server) -> None:
    name = await server.start_template()
    await server.hear()
    answer = await server.order(name, server.ticket(), in_ms=-1)
    assert answer == {"op": "not_forked", "id": 1, "error": "the order came too late"}


async def test_an_output_that_cannot_be_written_is_an_answer_and_the_template_lives_on(server: Server) -> None:
    name = await server.start_template()
    await server.hear()
    answer = await server.order(name, server.ticket(), output="/does/not/exist")
    assert answer["op"] == "not_forked"
    assert "No such file" in answer["error"]
    assert (await server.order(name, server.ticket(), 2, in_ms=-1))["id"] == 2


async def test_a_template_with_a_wrong_token_is_refused_and_ends(server: Server) -> None:
    name = await server.start_template(token="another")
    assert (await asyncio.wait_for(server.ended[name], 30)).code == 0
    assert server.lines == {}


async def test_a_template_ends_with_its_servers_connection(server: Server) -> None:
    name = await server.start_template()
    await server.hear()
    server.lines[name].close()
    assert (await asyncio.wait_for(server.ended[name], 30)).code == 0


async def test_the_server_hears_of_a_template_that_died(server: Server) -> None:
    name = await server.start_template()
    await server.hear()
    lost = asyncio.Event()
    server.lines[name].on_lost = lost.set
    await server.spawner.kill(name)
    await asyncio.wait_for(lost.wait(), 30)
    assert (await asyncio.wait_for(server.ended[name], 30)).signal == signal.SIGKILL
