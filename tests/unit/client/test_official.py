"""Programs written for the official client: what they import is here, and takes what they pass.

The names and arguments are those of its version 1.0.3; what it does with a server's JSON is `parse` and the keys below.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

from roost import client
from roost.client.asynchronous import AsyncClient
from roost.client.client import Client
from roost.client.errors import ClientError
from roost.client.statuses import Completed, InProgress, Queued, Status, parse

SUBMIT = ("application", "arguments", "path", "hint", "webhook_url", "priority", "headers", "start_timeout")
ARGUMENTS = {
    "run": ("application", "arguments", "method", "path", "timeout", "start_timeout", "hint", "headers"),
    "submit": SUBMIT,
    "subscribe": (
        *(name for name in SUBMIT if name != "webhook_url"),
        *("with_logs", "interval", "on_enqueue", "on_queue_update", "client_timeout"),
    ),
    "stream": ("application", "arguments", "path", "timeout", "headers"),
    "get_handle": ("application", "request_id"),
    "status": ("application", "request_id", "with_logs"),
    "result": ("application", "request_id"),
    "cancel": ("application", "request_id"),
}
NAMES = [
    "SyncClient",
    "AsyncClient",
    "Status",
    "Queued",
    "InProgress",
    "Completed",
    "FalClientError",
    "FalClientHTTPError",
    "FalClientTimeoutError",
    "SyncRequestHandle",
    "AsyncRequestHandle",
    "run",
    "subscribe",
    "submit",
    "stream",
    "cancel",
    "status",
    "result",
    "run_async",
    "subscribe_async",
    "submit_async",
    "stream_async",
    "cancel_async",
    "status_async",
    "result_async",
]


@pytest.mark.parametrize("cls", [Client, AsyncClient])
@pytest.mark.parametrize("verb", ARGUMENTS)
def test_a_verb_takes_what_the_official_clients_takes(cls: type[Any], verb: str) -> None:
    taken = inspect.signature(getattr(cls, verb)).parameters
    assert [name for name in ARGUMENTS[verb] if name not in taken] == []


@pytest.mark.parametrize("verb", ARGUMENTS)
def test_both_clients_take_the_same(verb: str) -> None:
    def arguments(cls: type[Any]) -> list[tuple[str, object]]:
        return [(parameter.name, parameter.default) for parameter in inspect.signature(getattr(cls, verb)).parameters.values()]

    assert arguments(Client) == arguments(AsyncClient)


@pytest.mark.parametrize("name", NAMES)
def test_the_module_has_the_official_modules_names(name: str) -> None:
    assert callable(getattr(client, name))


def test_a_name_that_is_nowhere_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'upload_async'"):
        _ = client.upload_async


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"status": "IN_QUEUE", "queue_position": 3}, Queued(3)),
        ({"status": "IN_PROGRESS", "logs": None}, InProgress(None)),
        ({"status": "IN_PROGRESS", "logs": [{"message": "x"}]}, InProgress([{"message": "x"}])),
        ({"status": "COMPLETED", "logs": None, "metrics": {"inference_time": 1.5}}, Completed(None, {"inference_time": 1.5})),
        (
            {"status": "COMPLETED", "logs": [], "metrics": {}, "error": "No.", "error_type": "client_cancelled"},
            Completed([], {}, "No.", "client_cancelled"),
        ),
    ],
)
def test_a_status_object_is_what_the_official_client_makes_of_it(data: dict[str, Any], status: Status) -> None:
    assert parse(data) == status


@pytest.mark.parametrize("data", [{"status": "FAILED"}, {}, [], "IN_QUEUE", None])
def test_what_is_no_status_is_said_to_be_none(data: object) -> None:
    with pytest.raises(ClientError, match="is not the status of a request"):
        parse(data)


def test_the_client_is_ready_without_the_http_library_and_says_what_is_missing_when_it_calls() -> None:
    code = (
        "import sys, roost; client = roost.Client('a:b'); assert 'httpx' not in sys.modules\n"
        "sys.modules['httpx'] = None\n"
        "class Gone:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.partition('.')[0] == 'httpx': raise ModuleNotFoundError(name)\n"
        "del sys.modules['httpx']; sys.meta_path.insert(0, Gone())\n"
        "try: client.run('me/hello')\n"
        "except roost.ClientError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Calling other apps needs the package httpx. Add 'httpx' to the app's requirements.\n"
