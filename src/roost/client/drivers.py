"""Flows over httpx: one driver that blocks, one that awaits. They carry out steps (steps.py) and decide nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from roost.client.lighthttp import httpx
from roost.client.steps import Answer, Broken, Emit, Flow, HangUp, How, Listen, More, Pause, Reply, Send, Step

CONNECT_S = 10.0
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100)
"""Every request that is waited for holds a connection; who waits for a thousand should not wait for a place in a pool."""

FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)


@dataclass(frozen=True, slots=True)
class Finished:
    """The flow's result."""

    value: Any


class Drive:
    """One flow on its way. `next` goes on to the next emitted value or the result; `close` leaves early."""

    def __init__(self, flow: Flow[Any], http: httpx.Client, pause: Callable[[float], None]) -> None:
        self._flow, self._http, self._pause = flow, http, pause
        self._open: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def next(self) -> Emit | Finished:
        reply: Reply = None
        try:
            while True:
                step = self._flow.send(reply)
                if isinstance(step, Emit):
                    return step
                reply = self._reply(step)
        except StopIteration as ended:
            self.close()
            return Finished(ended.value)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._flow.close()
        self._hang_up()

    def _reply(self, step: Step) -> Reply:
        try:
            match step:
                case Send():
                    response = self._http.send(_request(self._http, step))
                    return _answer(response, response.content)
                case Listen(send):
                    self._hang_up()
                    response = self._open = self._http.send(_request(self._http, send), stream=True)
                    self._chunks = response.iter_bytes()
                    return _answer(response, b"" if response.is_success else response.read())
                case More():
                    return next((chunk for chunk in self._chunks if chunk), b"")
                case HangUp():
                    self._hang_up()
                case Pause(seconds):
                    self._pause(seconds)
                case _:
                    pass
        except FAILURES as exc:
            return _broken(exc)
        return None

    def _hang_up(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


class AsyncDrive:
    """The same for an event loop."""

    def __init__(self, flow: Flow[Any], http: httpx.AsyncClient, pause: Callable[[float], Awaitable[None]] | None = None) -> None:
        self._flow, self._http, self._pause = flow, http, pause or asyncio.sleep
        self._open: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def next(self) -> Emit | Finished:
        reply: Reply = None
        try:
            while True:
                step = self._flow.send(reply)
                if isinstance(step, Emit):
                    return step
                reply = await self._reply(step)
        except StopIteration as ended:
            await self.close()
            return Finished(ended.value)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        self._flow.close()
        await self._hang_up()

    async def _reply(self, step: Step) -> Reply:
        try:
            match step:
                case Send():
                    response = await self._http.send(_request(self._http, step))
                    return _answer(response, response.content)
                case Listen(send):
                    await self._hang_up()
                    response = self._open = await self._http.send(_request(self._http, send), stream=True)
                    self._chunks = response.aiter_bytes()
                    return _answer(response, b"" if response.is_success else await response.aread())
                case More():
                    assert self._chunks is not None
                    async for chunk in self._chunks:
                        if chunk:
                            return chunk
                    return b""
                case HangUp():
                    await self._hang_up()
                case Pause(seconds):
                    await self._pause(seconds)
                case _:
                    pass
        except FAILURES as exc:
            return _broken(exc)
        return None

    async def _hang_up(self) -> None:
        if self._open is not None:
            await self._open.aclose()
            self._open = None


def _request(http: httpx.Client | httpx.AsyncClient, send: Send) -> httpx.Request:
    connect = CONNECT_S if send.timeout_s is None else min(CONNECT_S, send.timeout_s)
    timeout = httpx.Timeout(send.timeout_s, connect=connect, pool=None)
    # No body at all is `None`: empty bytes would be sent as a body of length 0 with a GET.
    return http.build_request(send.method, send.url, headers=list(send.headers), content=send.content or None, timeout=timeout)


def _answer(response: httpx.Response, content: bytes) -> Answer:
    return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, content)


def _broken(exc: Exception) -> Broken:
    text = str(exc).rstrip(".") or type(exc).__name__
    match exc:
        case httpx.ConnectError() if "SSL" in text or "certificate" in text.lower():
            # It will not get better by trying.
            return Broken(How.WRONG, text)
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
            return Broken(How.REFUSED, text)
        case httpx.TimeoutException():
            return Broken(How.SILENT, "it took too long" if text == type(exc).__name__ else text)
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            return Broken(How.WRONG, text)
        case httpx.TransportError() | httpx.StreamError():
            return Broken(How.CUT, text)
        case _:
            return Broken(How.WRONG, text)
