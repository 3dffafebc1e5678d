"""The caller's side: calls to apps, direct or through the durable queue.

`roost.Client` and `roost.AsyncClient` are here, and for programs that were written for the official client, its functions:
`from roost import client as fal_client` is their only change. Names load on first use, as in `roost` itself.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from roost.client.asynchronous import AsyncClient as AsyncClient
    from roost.client.asynchronous import AsyncRequestHandle as AsyncRequestHandle
    from roost.client.client import Client as Client
    from roost.client.client import RequestHandle as RequestHandle
    from roost.client.errors import ClientConnectionError as ClientConnectionError
    from roost.client.errors import ClientError as ClientError
    from roost.client.errors import ClientHTTPError as ClientHTTPError
    from roost.client.errors import ClientTimeoutError as ClientTimeoutError
    from roost.client.errors import ConfigError as ConfigError
    from roost.client.statuses import Completed as Completed
    from roost.client.statuses import InProgress as InProgress
    from roost.client.statuses import Queued as Queued
    from roost.client.statuses import Status as Status
    from roost.client.webhooks import WebhookRejected as WebhookRejected
    from roost.client.webhooks import verify_webhook as verify_webhook

    SyncClient = Client
    SyncRequestHandle = RequestHandle

_HOMES = {
    "AsyncClient": ("asynchronous", "AsyncClient"),
    "AsyncRequestHandle": ("asynchronous", "AsyncRequestHandle"),
    "Client": ("client", "Client"),
    "ClientConnectionError": ("errors", "ClientConnectionError"),
    "ClientError": ("errors", "ClientError"),
    "ClientHTTPError": ("errors", "ClientHTTPError"),
    "ClientTimeoutError": ("errors", "ClientTimeoutError"),
    "Completed": ("statuses", "Completed"),
    "ConfigError": ("errors", "ConfigError"),
    "FalClientError": ("errors", "ClientError"),
    "FalClientHTTPError": ("errors", "ClientHTTPError"),
    "FalClientTimeoutError": ("errors", "ClientTimeoutError"),
    "InProgress": ("statuses", "InProgress"),
    "Queued": ("statuses", "Queued"),
    "RequestHandle": ("client", "RequestHandle"),
    "Status": ("statuses", "Status"),
    "SyncClient": ("client", "Client"),
    "SyncRequestHandle": ("client", "RequestHandle"),
    "WebhookRejected": ("webhooks", "WebhookRejected"),
    "verify_webhook": ("webhooks", "verify_webhook"),
}
_VERBS = ("run", "subscribe", "submit", "status", "result", "cancel", "stream")
"""Of a client that is made on first use; each also as `<verb>_async`."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOMES:
        module, there = _HOMES[name]
        value = getattr(import_module(f"roost.client.{module}"), there)
    elif name in ("sync_client", "async_client"):
        value = __getattr__("Client" if name == "sync_client" else "AsyncClient")()
    elif name in _VERBS:
        value = getattr(globals().get("sync_client") or __getattr__("sync_client"), name)
    elif name.removesuffix("_async") in _VERBS:
        value = getattr(globals().get("async_client") or __getattr__("async_client"), name.removesuffix("_async"))
    else:
        raise AttributeError(f"module 'roost.client' has no attribute {name!r}")
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_VERBS, *(f"{verb}_async" for verb in _VERBS)})
