"""The webhooks engine on a disk that fails: what a receiver has answered is not sent again for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from roost.core.requests import Claim, Content, Final, Input, NewRequest, Output
from roost.core.webhooks import WebhookState
from roost.data.payloads import Payloads
from roost.engines.webhooks.courier import Courier
from roost.engines.webhooks.engine import WebhooksEngine
from roost.kit.hints import Hints
from roost.store import MEMORY, Store, known
from roost.store.sqlite import SqliteDriver
from roost.testkit import blank
from roost.testkit.flaky import FlakyDriver
from roost.testkit.loop import VirtualLoop
from roost.testkit.receivers import Receivers, Says


@dataclass
class Office:
    """An engine, and what is around it."""

    store: Store
    driver: FlakyDriver
    receivers: Receivers
    engine: WebhooksEngine
    hints: Hints

    async def owe(self, body: bytes = b"{}") -> None:
        asked = blank.REQUEST._replace(id="r1", gateway_request_id="r1", webhook="https://x.test/")
        new = NewRequest(asked, Input("POST", b"/", b"", (), Content(2, b"{}")))
        now_ms = self.engine._now_ms()
        await self.store.requests.submit_and_claim(new, Claim("r1-1", "run-1", now_ms + 9_000), now_ms)
        final = Final(200, output=Output(200, (), Content(len(body), body)), expires_ms=10**15, webhook_until_ms=now_ms + 3_600_000)
        await self.store.requests.finish("r1", 1, final, now_ms)
        self.hints.give("webhooks")

    async def state(self) -> tuple[WebhookState, int]:
        webhook = await self.store.webhooks.get("r1")
        assert webhook is not None
        return webhook.state, webhook.tries


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    clock = loop.clock
    driver = FlakyDriver(await SqliteDriver.open(MEMORY))
    store = await Store.on(driver, clock, known())
    receivers, hints = Receivers(clock.now_ms), Hints()
    courier = Courier(store.requests, Payloads(tmp_path), receivers, lambda *_: (), clock.now_ms)
    engine = WebhooksEngine(store.webhooks, hints, courier, 50, lambda: 0.5)
    engine.loop.start()
    yield Office(store, driver, receivers, engine, hints)
    await engine.stop()
    await store.close()


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_delivery_that_could_not_be_written_down_is_written_later_and_not_sent_again(office: Office, fault: str) -> None:
    def answer(_: object) -> Says:
        office.driver.fault = fault  # of the write that follows
        return Says()

    office.receivers.behaves("x.test", answer)
    await office.owe()
    await asyncio.sleep(60)
    assert await office.state() == (WebhookState.DELIVERED, 1)
    assert len(office.receivers.received) == 1
    assert len(await office.store.webhooks.tries("r1")) == 1


async def test_what_cannot_be_read_now_is_sent_when_it_can(office: Office) -> None:
    await office.owe()
    office.driver.cannot_read = True
    await asyncio.sleep(10)
    assert office.receivers.received == []
    office.driver.cannot_read = False
    await asyncio.sleep(10)
    assert await office.state() == (WebhookState.DELIVERED, 1)


async def test_one_that_the_server_itself_fails_at_comes_to_an_end_and_holds_up_nobody(office: Office) -> None:
    def fail(_: object) -> Says:
        raise RuntimeError("a bug")

    office.receivers.behaves("x.test", fail)
    await office.owe()
    await asyncio.sleep(3700)
    state, tries = await office.state()
    assert state is WebhookState.FAILED and tries > 10
    assert "a bug" in (await office.store.webhooks.tries("r1"))[0].outcome


async def test_without_anything_to_do_it_hardly_looks(office: Office) -> None:
    reads = 0
    read = office.driver.read

    async def counted(work: object) -> object:
        nonlocal reads
        reads += 1
        return await read(work)  # type: ignore[arg-type]

    office.driver.read = counted  # type: ignore[method-assign,assignment]
    await asyncio.sleep(60)
    assert reads <= 26
