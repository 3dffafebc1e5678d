"""The queue's addresses: what a path asks for (spec: queue.md §1, gateway-http.md §2, GAPS A4).

A path is a submit, `/{owner}/{app}[/sub/path]`, or about one request, `<path>/requests/{id}[/status[/stream]|/cancel|/response]`. The second
form is taken with an app's sub-path in it or without, and with slashes at its end; the URLs that we give (`web.addresses`) have no sub-path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from roost.gateway.resolve import legacy, split
from roost.wire.errors import RoostError


class Verb(Enum):
    STATUS = "status"
    STREAM = "status/stream"
    RESULT = "response"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class About:
    """A question about one request, or the wish to cancel it."""

    apps: tuple[tuple[str, str], ...]
    """(owner, name) that the path may mean; the request must be of one of them."""
    request_id: str
    verb: Verb


@dataclass(frozen=True, slots=True)
class Submit:
    """A request for the app in the path (`resolve.split` takes it apart)."""

    path: bytes


_ABOUT: Final = re.compile(rb"(/.+?)/+requests/+([^/]+)(?:/+(status/+stream|status|cancel|response))?/*")
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_METHODS: Final = {
    Verb.STATUS: ("GET", "HEAD"),
    Verb.STREAM: ("GET",),
    Verb.RESULT: ("GET", "HEAD"),
    Verb.CANCEL: ("PUT",),
}


@lru_cache(4096)  # who polls asks the same again and again
def read(method: str, raw_path: bytes) -> About | Submit:
    """What this path asks for. Raises `method_not_allowed` for a request's address with a method that it does not take.

    An app's own path may look like a request's, `/requests/{word}`: it is the app's with every method that the queue does not take there,
    unless the word is an id of ours.
    """
    found = _ABOUT.fullmatch(raw_path)
    apps = _apps(found[1]) if found is not None else ()
    if found is None or not apps:
        return Submit(raw_path)
    request_id = unquote(found[2].decode("latin-1"))
    verb = Verb(re.sub(r"/+", "/", (found[3] or b"response").decode()))
    if method in _METHODS[verb]:
        return About(apps, request_id, verb)
    if _ID.fullmatch(request_id):
        error = RoostError("method_not_allowed", f"{method} is not for this address", hint=f"It takes {' and '.join(_METHODS[verb])}.")
        error.headers = ((b"allow", ", ".join(_METHODS[verb]).encode()),)
        raise error
    return Submit(raw_path)


def _apps(head: bytes) -> tuple[tuple[str, str], ...]:
    """The apps that this part of a path may mean: as it is read on submit, or `NUMBER-rest` with a sub-path."""
    owner, name, _ = split(head)
    apps = ((owner, name),) if owner and name else ()
    old = legacy(owner)
    return (*apps, old) if old is not None and old not in apps else apps
