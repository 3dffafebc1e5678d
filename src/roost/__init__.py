"""Roost: a self-hosted serverless runtime for AI apps. One class, `roost run`, a URL.

The author's names. They load on first use (PEP 562): `import roost` itself imports nothing, because every start of a runner, of the
command line and of the author's own program pays for it. A test guards that.
"""

from __future__ import annotations

# The name alone is what type checkers look for; importing it from `typing` would cost more than all the rest of this file.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from roost import exceptions as exceptions
    from roost.client.asynchronous import AsyncClient as AsyncClient
    from roost.client.client import Client as Client
    from roost.client.errors import ClientConnectionError as ClientConnectionError
    from roost.client.errors import ClientError as ClientError
    from roost.client.errors import ClientHTTPError as ClientHTTPError
    from roost.client.errors import ClientTimeoutError as ClientTimeoutError
    from roost.client.inherited import outgoing_headers as outgoing_headers
    from roost.client.statuses import Completed as Completed
    from roost.client.statuses import InProgress as InProgress
    from roost.client.statuses import Queued as Queued
    from roost.client.webhooks import WebhookRejected as WebhookRejected
    from roost.client.webhooks import verify_webhook as verify_webhook
    from roost.control.spawn import AppSpawnInfo as AppSpawnInfo
    from roost.control.spawn import spawn as spawn
    from roost.sdk.app import App as App
    from roost.sdk.app import get_current_app as get_current_app
    from roost.sdk.context import RequestContext as RequestContext
    from roost.sdk.endpoint import endpoint as endpoint
    from roost.sdk.exceptions import AppException as AppException
    from roost.sdk.exceptions import CUDAOutOfMemoryException as CUDAOutOfMemoryException
    from roost.sdk.exceptions import FieldException as FieldException
    from roost.sdk.exceptions import GPUException as GPUException
    from roost.sdk.exceptions import GPUOutOfMemoryException as GPUOutOfMemoryException
    from roost.sdk.exceptions import RequestCancelledException as RequestCancelledException
    from roost.sdk.health import HealthCheck as HealthCheck
    from roost.sdk.retry import RetryConfig as RetryConfig
    from roost.sdk.testing import AppClient as AppClient
    from roost.sdk.testing import AppClientError as AppClientError

__version__ = "0.1.0"

_HOMES = {
    "App": "roost.sdk.app",
    "AppClient": "roost.sdk.testing",
    "AppClientError": "roost.sdk.testing",
    "AppException": "roost.sdk.exceptions",
    "AppSpawnInfo": "roost.control.spawn",
    "AsyncClient": "roost.client.asynchronous",
    "CUDAOutOfMemoryException": "roost.sdk.exceptions",
    "Client": "roost.client.client",
    "ClientConnectionError": "roost.client.errors",
    "ClientError": "roost.client.errors",
    "ClientHTTPError": "roost.client.errors",
    "ClientTimeoutError": "roost.client.errors",
    "Completed": "roost.client.statuses",
    "FieldException": "roost.sdk.exceptions",
    "GPUException": "roost.sdk.exceptions",
    "GPUOutOfMemoryException": "roost.sdk.exceptions",
    "HealthCheck": "roost.sdk.health",
    "InProgress": "roost.client.statuses",
    "Queued": "roost.client.statuses",
    "RequestCancelledException": "roost.sdk.exceptions",
    "RequestContext": "roost.sdk.context",
    "RetryConfig": "roost.sdk.retry",
    "WebhookRejected": "roost.client.webhooks",
    "endpoint": "roost.sdk.endpoint",
    "exceptions": "roost.exceptions",
    "get_current_app": "roost.sdk.app",
    "outgoing_headers": "roost.client.inherited",
    "spawn": "roost.control.spawn",
    "verify_webhook": "roost.client.webhooks",
}

__all__ = [
    "App",
    "AppClient",
    "AppClientError",
    "AppException",
    "AppSpawnInfo",
    "AsyncClient",
    "CUDAOutOfMemoryException",
    "Client",
    "ClientConnectionError",
    "ClientError",
    "ClientHTTPError",
    "ClientTimeoutError",
    "Completed",
    "FieldException",
    "GPUException",
    "GPUOutOfMemoryException",
    "HealthCheck",
    "InProgress",
    "Queued",
    "RequestCancelledException",
    "RequestContext",
    "RetryConfig",
    "WebhookRejected",
    "__version__",
    "endpoint",
    "exceptions",
    "get_current_app",
    "outgoing_headers",
    "spawn",
    "verify_webhook",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'roost' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(home)
    value = getattr(module, name, module)  # `exceptions` is a module itself
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
