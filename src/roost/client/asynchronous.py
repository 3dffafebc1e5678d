"""`roost.AsyncClient`: the same as `roost.Client` for event loops. Callbacks may be functions or coroutines."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from roost.client import calls, flows
from roost.client.calls import Priority
from roost.client.carrier import AsyncCarrier, Said
from roost.client.client import DEFAULT_TIMEOUT_S
from roost.client.flows import Ticket
from roost.client.statuses import Status
from roost.client.steps import Answer

if TYPE_CHECKING:
    import httpx


class AsyncClient:
    """Calls apps of one server, awaiting. Each event loop gets connections of its own.

    Server and key: the arguments, else `ROOST_HOST` and `ROOST_KEY`, else the profile in config.toml, else the server on this machine and
    `FAL_KEY`. Inside an app: its own server, as the app's owner. `default_timeout` limits, in seconds, the wait for each answer of the
    queue; `run` is limited only by its own `timeout`.

    Errors: ClientHTTPError (the answer is an error), ClientConnectionError (there is none), ClientTimeoutError, all ClientError.
    """

    def __init__(
        self,
        key: str | None = None,
        *,
        host: str | None = None,
        profile: str | None = None,
        default_timeout: float | None = DEFAULT_TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        """`transport` and `pause` replace the network and the waiting in tests."""
        self._carrier = AsyncCarrier(Said(key, host, profile, default_timeout), transport, pause)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections that are kept for the next call."""
        await self._carrier.close()

    # direct

    async def run(
        self,
        application: str,
        arguments: Any = None,
        *,
        method: str = "POST",
        path: str = "",
        timeout: float | None = None,
        start_timeout: float | None = None,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        content_type: str | None = None,
    ) -> Any:
        """Call an endpoint and return its result: JSON parsed, text as str, anything else as bytes.

        The call runs at most once: it is sent again only if it certainly reached no runner. `start_timeout` is how many seconds it may
        wait for a runner; `timeout` how long this side waits for the answer.
        """
        call = calls.direct_call(
            self._carrier.said.app(application),
            arguments,
            method=method,
            path=path,
            body=body,
            content_type=content_type,
            hint=hint,
            start_timeout=start_timeout,
            headers=headers,
        )
        answer = await self._carrier.finish(flows.run(self._carrier.said.caller, call, timeout))
        return answer.value()

    def stream(
        self,
        application: str,
        arguments: Any = None,
        *,
        path: str = "/stream",
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Any]:
        """Call an endpoint that answers with server-sent events, and yield each event's data as it comes."""
        call = calls.direct_call(
            self._carrier.said.app(application),
            arguments,
            method="POST",
            path=path,
            body=None,
            content_type=None,
            hint=None,
            start_timeout=None,
            headers=headers,
        )
        return self._carrier.values(flows.stream(self._carrier.said.caller, call, timeout))

    # queued

    async def submit(
        self,
        application: str,
        arguments: Any = None,
        *,
        path: str = "",
        hint: str | None = None,
        webhook_url: str | None = None,
        priority: Priority | None = None,
        headers: Mapping[str, str] | None = None,
        start_timeout: float | None = None,
        method: str = "POST",
        body: bytes | str | None = None,
        content_type: str | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncRequestHandle:
        """Put a request into the app's queue and return its handle. Once this returns, the server has it on disk.

        `start_timeout` is how many seconds it may wait to begin. The same `idempotency_key` with the same request is the same request,
        also from another process and after a crash of this one; with another request it is a ClientHTTPError (422). `webhook_url` is sent
        the result, signed: see `roost.verify_webhook`.
        """
        call = calls.direct_call(
            self._carrier.said.app(application),
            arguments,
            method=method,
            path=path,
            body=body,
            content_type=content_type,
            hint=hint,
            start_timeout=start_timeout,
            headers=headers,
            waits=False,
        )
        queued = calls.queued_call(call, priority=priority, idempotency_key=idempotency_key, webhook_url=webhook_url)
        return self._handle(await self._carrier.finish(flows.submit(self._carrier.said.caller, queued)))

    async def subscribe(
        self,
        application: str,
        arguments: Any = None,
        *,
        path: str = "",
        hint: str | None = None,
        with_logs: bool = False,
        interval: float | None = None,
        on_enqueue: Callable[[str], object] | None = None,
        on_queue_update: Callable[[Status], object] | None = None,
        priority: Priority | None = None,
        headers: Mapping[str, str] | None = None,
        start_timeout: float | None = None,
        client_timeout: float | None = None,
        method: str = "POST",
        body: bytes | str | None = None,
        content_type: str | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Put a request into the queue, wait, and return its result as `run` does.

        `on_enqueue(request_id)` is called once, `on_queue_update(status)` on every change and at least each second. Without an `interval`
        the server pushes; with one it is asked every so many seconds. After `client_timeout` seconds the request is cancelled and
        ClientTimeoutError raised. A restart of the server in between costs time and nothing else.
        """
        call = calls.direct_call(
            self._carrier.said.app(application),
            arguments,
            method=method,
            path=path,
            body=body,
            content_type=content_type,
            hint=hint,
            start_timeout=calls.start_within(start_timeout, client_timeout),
            headers=headers,
        )
        flow = flows.subscribe(
            self._carrier.said.caller,
            calls.queued_call(call, priority=priority, idempotency_key=idempotency_key, webhook_url=None),
            with_logs=with_logs,
            updates=on_queue_update is not None,
            interval_s=interval,
            client_timeout_s=client_timeout,
        )
        request_id = ""

        async def tell(value: Any) -> None:
            nonlocal request_id
            said: object = None
            if isinstance(value, Ticket):
                request_id = value.request_id
                if on_enqueue is not None:
                    said = on_enqueue(request_id)
            elif on_queue_update is not None:
                said = on_queue_update(value)
            if inspect.isawaitable(said):
                await said

        return flows.checked(await self._carrier.finish(flow, tell), request_id).value()

    async def get_handle(self, application: str, request_id: str) -> AsyncRequestHandle:
        """The handle of a request that was submitted before, perhaps by somebody else. Asks nobody."""
        return self._handle(Ticket(self._carrier.said.app(application), request_id))

    async def status(self, application: str, request_id: str, *, with_logs: bool = False) -> Status:
        return await (await self.get_handle(application, request_id)).status(with_logs=with_logs)

    async def result(self, application: str, request_id: str) -> Any:
        """Wait until the request is completed and return its result."""
        return await (await self.get_handle(application, request_id)).get()

    async def cancel(self, application: str, request_id: str) -> None:
        await (await self.get_handle(application, request_id)).cancel()

    def _handle(self, ticket: Ticket) -> AsyncRequestHandle:
        url = self._carrier.said.url(ticket)
        return AsyncRequestHandle(ticket.request_id, url, f"{url}/status", f"{url}/cancel", ticket, self._carrier)


@dataclass(frozen=True)
class AsyncRequestHandle:
    """A queued request."""

    request_id: str
    response_url: str = field(repr=False)
    status_url: str = field(repr=False)
    cancel_url: str = field(repr=False)
    _ticket: Ticket = field(repr=False)
    _carrier: AsyncCarrier = field(repr=False)

    async def status(self, *, with_logs: bool = False) -> Status:
        """Where it is now: Queued, InProgress or Completed."""
        return await self._carrier.finish(flows.status(self._carrier.said.caller, self._ticket, with_logs=with_logs))

    def iter_events(self, *, with_logs: bool = False, interval: float | None = None) -> AsyncIterator[Status]:
        """Its status on every change and at least each second, until it is Completed. With an `interval`: asked every so many seconds."""
        return self._carrier.values(flows.watch(self._carrier.said.caller, self._ticket, with_logs=with_logs, interval_s=interval))

    async def get(self, *, interval: float | None = None) -> Any:
        """Wait until it is completed and return its result. Raises ClientHTTPError if that is an error."""
        return flows.checked(await self.response(interval=interval), self.request_id).value()

    async def response(self, *, interval: float | None = None) -> Answer:
        """Wait until it is completed and return what it answered as HTTP: status_code, headers, content. No status raises."""
        return await self._carrier.finish(flows.answer(self._carrier.said.caller, self._ticket, interval_s=interval))

    async def cancel(self) -> None:
        """Ask for it to be cancelled. One that is completed already raises ClientHTTPError (400)."""
        await self._carrier.finish(flows.cancel(self._carrier.said.caller, self._ticket))
