"""The response of a queued call as it comes over one connection: kept in memory while it is small, else in a file that no row names yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from roost.core import retry
from roost.core.requests import Content
from roost.data.payloads import INLINE, Growing, Payloads, PayloadTrouble
from roost.link.connection import QueuedExchange, response_of
from roost.wire import frames
from roost.wire.frames import ResponseHead
from roost.wire.session import MOVED


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole response. Its content is durable if it is a file."""

    head: ResponseHead
    content: Content


@dataclass(frozen=True, slots=True)
class NotKept:
    """The response came, and the disk did not take it. The runner still has it."""

    detail: str


async def read_answer(
    exchange: QueuedExchange, payloads: Payloads, begun: Callable[[ResponseHead], None], credit: Callable[[QueuedExchange], None]
) -> Answer | NotKept | retry.Broken | retry.Moved | None:
    """Read to the end. None: the connection broke, the call was taken up elsewhere, or an event of ours ended it.

    A call that was sent with its reservation is ACCEPTed first, or BUSY and then of no consequence.

    `begun` gets the head of the response; `credit` is called when the runner takes more of the request's body.
    """
    head: ResponseHead | None = None
    growing: Growing | None = None
    try:
        while True:
            event = await exchange.next()
            kind, _, value = event
            if kind == frames.RESPONSE:
                head = response_of(event)
                begun(head)
            elif kind == frames.BODY_END:
                assert head is not None, "the session lets no body through before its head"
                if growing is None and len(value) <= INLINE:
                    # Most answers are this small, and this whole.
                    return Answer(head, Content(len(value), value))
                return Answer(head, await (growing or Growing(payloads)).end(value))
            elif kind == frames.BODY:
                growing = growing or Growing(payloads)
                await growing.add(value)
                exchange.consumed(len(value))
            elif kind == frames.CREDIT:
                credit(exchange)
            elif kind == frames.BUSY and not exchange.connection.lost:
                return retry.Moved("its runner had no free slot after all")
            elif kind == frames.ACCEPT:
                continue
            elif kind == frames.RESET and value["code"] != MOVED:
                return retry.Broken(value["code"], value["detail"])
            else:
                return None
    except PayloadTrouble as error:
        return NotKept(error.detail)
    finally:
        if growing is not None:
            growing.discard()
