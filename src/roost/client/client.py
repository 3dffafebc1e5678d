"""`roost.Client`: calls to apps, direct or through the queue. Names and arguments are those of the official Python client.

```python
client = roost.Client()                                       # server and key as the command line finds them
client.run("me/hello", {"name": "Ada"})                       # direct: one connection from question to answer
client.subscribe("me/hello", {"name": "Ada"})                 # through the queue: survives what happens in between
handle = client.submit("me/hello", {"name": "Ada"})           # and come back later
handle.get()
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import sleep
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from roost.client import calls, flows
from roost.client.calls import Priority
from roost.client.carrier import Carrier, Said
from roost.client.flows import Ticket
from roost.client.statuses import Status
from roost.client.steps import Answer

if TYPE_CHECKING:
    import httpx

DEFAULT_TIMEOUT_S = 120.0


class Client:
    """Calls apps of one server, blocking. May be used from several threads.

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
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = sleep,
    ) -> None:
        """`transport` and `pause` replace the network and the waiting in tests."""
        self._carrier = Carrier(Said(key, host, profile, default_timeout), transport, pause)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept for the next call."""
        self._carrier.close()

    # direct

    def run(
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
        return self._carrier.finish(flows.run(self._carrier.said.caller, call, timeout)).value()

    def stream(
        self,
        application: str,
        arguments: Any = None,
        *,
        path: str = "/stream",
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Any]:
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

    def submit(
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
    ) -> RequestHandle:
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
        return self._handle(self._carrier.finish(flows.submit(self._carrier.said.caller, queued)))

    def subscribe(
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

        def tell(value: Any) -> None:
            nonlocal request_id
            if isinstance(value, Ticket):
                request_id = value.request_id
                if on_enqueue is not None:
                    on_enqueue(request_id)
            elif on_queue_update is not None:
                on_queue_update(value)

        return flows.checked(self._carrier.finish(flow, tell), request_id).value()

    def get_handle(self, application: str, request_id: str) -> RequestHandle:
        """The handle of a request that was submitted before, perhaps by somebody else. Asks nobody."""
        return self._handle(Ticket(self._carrier.said.app(application), request_id))

    def status(self, application: str, request_id: str, *, with_logs: bool = False) -> Status:
        return self.get_handle(application, request_id).status(with_logs=with_logs)

    def result(self, application: str, request_id: str) -> Any:
        """Wait until the request is completed and return its result."""
        return self.get_handle(application, request_id).get()

    def cancel(self, application: str, request_id: str) -> None:
        self.get_handle(application, request_id).cancel()

    def _handle(self, ticket: Ticket) -> RequestHandle:
        url = self._carrier.said.url(ticket)
        return RequestHandle(ticket.request_id, url, f"{url}/status", f"{url}/cancel", ticket, self._carrier)


@dataclass(frozen=True)
class RequestHandle:
    """A queued request."""

    request_id: str
    response_url: str = field(repr=False)
    status_url: str = field(repr=False)
    cancel_url: str = field(repr=False)
    _ticket: Ticket = field(repr=False)
    _carrier: Carrier = field(repr=False)

    def status(self, *, with_logs: bool = False) -> Status:
        """Where it is now: Queued, InProgress or Completed."""
        return self._carrier.finish(flows.status(self._carrier.said.caller, self._ticket, with_logs=with_logs))

    def iter_events(self, *, with_logs: bool = False, interval: float | None = None) -> Iterator[Status]:
        """Its status on every change and at least each second, until it is Completed. With an `interval`: asked every so many seconds."""
        return self._carrier.values(flows.watch(self._carrier.said.caller, self._ticket, with_logs=with_logs, interval_s=interval))

    def get(self, *, interval: float | None = None) -> Any:
        """Wait until it is completed and return its result. Raises ClientHTTPError if that is an error."""
        return flows.checked(self.response(interval=interval), self.request_id).value()

    def response(self, *, interval: float | None = None) -> Answer:
        """Wait until it is completed and return what it answered as HTTP: status_code, headers, content. No status raises."""
        return self._carrier.finish(flows.answer(self._carrier.said.caller, self._ticket, interval_s=interval))

    def cancel(self) -> None:
        """Ask for it to be cancelled. One that is completed already raises ClientHTTPError (400)."""
        self._carrier.finish(flows.cancel(self._carrier.said.caller, self._ticket))
