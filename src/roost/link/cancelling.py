"""Telling an app that nobody wants a call any more: its `<path>/cancel` first, then the closed connection (spec: streaming-realtime.md §5)."""

from __future__ import annotations

import asyncio
from typing import Final

from roost.link.connection import Exchange
from roost.wire import frames
from roost.wire.frames import RequestHead

CANCEL_WAIT_S: Final = 5.0
"""How long the app's cancel endpoint may take. What it answers, and whether there is one, is nobody's concern (GAPS C12)."""


async def abandon(exchange: Exchange, head: RequestHead) -> None:
    """The caller is gone: tell the app, then the runner, and stay until the call has ended."""
    await ask_to_cancel(exchange, head)
    exchange.cancel()
    await drained(exchange)


async def ask_to_cancel(exchange: Exchange, head: RequestHead) -> None:
    """POST to the call's `<path>/cancel`, with the same request id, on the same runner; it takes no slot. `head` is the call's own."""
    if exchange.finished or exchange.connection.lost:
        return
    path = head.path.rstrip(b"/") + b"/cancel"
    fields = [(name, value) for name, value in head.headers if name not in (b"content-length", b"content-type")]
    fields += [(b"content-type", b"application/json"), (b"content-length", b"2")]
    told = exchange.connection.open(RequestHead("POST", path, b"", fields), b"{}", body_ended=True, bypass=True)
    try:
        await asyncio.wait_for(drained(told), CANCEL_WAIT_S)
    except (asyncio.TimeoutError, TimeoutError):
        told.cancel()


async def drained(exchange: Exchange) -> None:
    """Read and throw away until nothing more comes; unread bodies would hold the runner's window shut."""
    while not exchange.finished:
        kind, _, value = await exchange.next()
        if kind in (frames.BODY, frames.BODY_END) and value:
            exchange.consumed(len(value))
