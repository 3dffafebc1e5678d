"""Flows on a clock of their own: the caller's time limit, and no second spent too much."""

from __future__ import annotations

from typing import Any

import pytest

from roost.client import flows
from roost.client.addresses import AppId, Place
from roost.client.errors import ClientTimeoutError
from roost.client.steps import Answer, Broken, Emit, Flow, How, Listen, More, Pause, Send

SSE = Answer(200, {"content-type": "text/event-stream"})
QUEUED = b'data: {"status":"IN_QUEUE","queue_position":0}\n\n'


class World:
    """Time passes by pauses, and by one second with each piece of a stream."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.now = 0.0
        self.answers = answers
        self.steps: list[Any] = []
        self.caller = flows.Caller(Place("http://h"), clock=lambda: self.now, dice=lambda: 0.5)

    def play(self, flow: Flow[Any]) -> Any:
        reply: Any = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as ended:
                return ended.value
            self.steps.append(step)
            reply = self.reply(step)

    def reply(self, step: Any) -> Any:
        match step:
            case Pause(seconds):
                self.now += seconds
            case More():
                self.now += 1
                return QUEUED
            case Listen():
                return self.answers["stream"]
            case Send("POST"):
                return Answer(200, {}, b'{"request_id":"r"}')
            case Send("PUT"):
                return Answer(202, {})
            case Send():
                return self.answers["status"]
            case _:
                pass
        return None


CALL = flows.Call(AppId("me/hello"), "POST", (), b"")


@pytest.mark.parametrize("stream", [SSE, Broken(How.REFUSED, "refused"), Answer(404, {})], ids=["stream", "gone", "poll"])
@pytest.mark.parametrize("limit_s", [0.3, 5.0, 60.0])
def test_a_time_limit_is_kept_to_a_polls_length(stream: Any, limit_s: float) -> None:
    world = World({"stream": stream, "status": Answer(202, {}, b'{"status":"IN_QUEUE","queue_position":0}')})
    with pytest.raises(ClientTimeoutError):
        world.play(flows.subscribe(world.caller, CALL, client_timeout_s=limit_s))
    assert limit_s <= world.now <= limit_s + 0.001
    assert world.steps[-1].method == "PUT"


def test_no_exchange_waits_longer_than_is_left() -> None:
    world = World({"stream": Answer(404, {}), "status": Answer(202, {}, b'{"status":"IN_QUEUE"}')})
    with pytest.raises(ClientTimeoutError):
        world.play(flows.subscribe(world.caller, CALL, client_timeout_s=2))
    asked = [step.timeout_s or 0 for step in world.steps if isinstance(step, Send) and step.method == "GET"]
    assert asked == sorted(asked, reverse=True)
    assert 0 < asked[-1] < asked[0] <= 2


def test_what_nobody_wants_to_hear_is_not_emitted() -> None:
    world = World({"stream": Answer(404, {}), "status": Answer(200, {}, b'{"status":"COMPLETED"}')})
    world.play(flows.subscribe(world.caller, CALL, updates=False))
    assert [step.value for step in world.steps if isinstance(step, Emit)] == [flows.Ticket(CALL.app, "r")]
