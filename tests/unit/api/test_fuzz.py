"""Whatever is sent to whichever address of the control plane: a named answer, and never a failure of ours (faults.md K)."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

import roost.api
from roost.wire.errors import CODES
from tests.unit.api.world import SECRET, World

SOURCES = sorted(Path(roost.api.__file__).parent.glob("*.py"))
ROUTES = sorted({found for path in SOURCES for found in re.findall(r'Route\(\s*"([A-Z]+)",\s*"([^"]+)"', path.read_text())})
LIVING = {"owner": "ada", "name": "hello", "id": "r-1", "key": "k1", "sha256": "0" * 64}

odd = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["", ".", "..", "%", "%00", "a" * 300, "ada", "hello", "r-1", "0" * 64, "-1", "1e9", "None", "\x00", "\ud83d", "💥", "٣"]
    ),
).map(lambda text: text.encode("utf-8", "replace").decode())
names = [*LIVING, "app", "state", "limit", "before", "lines", "since", "caller", "caller_user_id", "by_user", "follow", "all", "x"]
queries = st.lists(st.tuples(st.sampled_from(names), odd), max_size=3)
fields = ["manifest", "spec", "alias", "scope", "hashes", "auth", "strategy", "session", "since", "all", "message", "keep_alive",
          "max_concurrency", "machine_types", "request_timeout", "max_multiplexing", "name", "pickle", "files", "states", "ids", "app"]  # fmt: skip
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), odd, st.sampled_from([10**400, -1, 2**63, 2**64])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.sampled_from(fields), odd), inner, max_size=4)),
    max_leaves=8,
)
objects = st.dictionaries(st.one_of(st.sampled_from(fields), odd), values, max_size=5)
bodies = st.one_of(objects.map(lambda value: json.dumps(value).encode()), st.binary(max_size=60), st.just(b"[" * 100_000))
authorizations = st.one_of(
    st.sampled_from([f"Key admin:{SECRET}".encode(), f"Key reader:{SECRET}".encode(), f"Key runners:{SECRET}".encode(), None]),
    st.binary(max_size=40),
    st.builds(lambda scheme, rest: scheme + b" " + rest, st.sampled_from([b"Key", b"bearer", b"BASIC", b""]), st.binary(max_size=40)),
)


async def asked(world: World, method: str, path: bytes, query: bytes, authorization: bytes | None, body: bytes) -> int:
    """The status, as soon as an answer begins; then the caller leaves."""
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    began: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def send(message: dict[str, Any]) -> None:
        if not began.done():
            began.set_result(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "headers": [(b"host", b"roost.test:8700"), *([(b"authorization", authorization)] if authorization is not None else [])],
    }
    inbox.put_nowait({"type": "http.request", "body": body, "more_body": False})
    task = asyncio.ensure_future(world.asgi(scope, inbox.get, send))  # type: ignore[arg-type]
    await asyncio.wait((task, began), return_when=asyncio.FIRST_COMPLETED, timeout=20)
    inbox.put_nowait({"type": "http.disconnect"})
    task.cancel()
    await asyncio.wait((task,), timeout=20)
    if not task.cancelled() and task.exception() is not None:
        raise task.exception() or AssertionError
    message = began.result()
    headers = dict(message["headers"])
    if message["status"] >= 400:
        assert headers[b"x-fal-error-type"].decode() in CODES
    return int(message["status"])


def test_every_route_is_here():
    assert len(ROUTES) > 35 and ("POST", "/v1/deploy") in ROUTES


@pytest.mark.parametrize("known", [True, False], ids=["things that are there", "things that are not"])
@given(route=st.sampled_from(ROUTES), data=st.data())
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_no_request_makes_the_control_plane_fail(world: World, known: bool, route: tuple[str, str], data: st.DataObject):
    if not world.ring._keys:
        await world.make_keys()
        await world.app()
        await world.runner("r-1")
    method, pattern = route
    parts = [
        quote(LIVING.get(part[1:-1], "x") if known else data.draw(odd), safe="") if part.startswith("{") else part
        for part in pattern.split("/")
    ]
    query = "&".join(f"{name}={quote(value)}" for name, value in data.draw(queries))
    raw = data.draw(st.integers(0, 9)) == 9
    authorization = data.draw(authorizations) if data.draw(st.integers(0, 5)) == 5 else f"Key admin:{SECRET}".encode()
    path = "/".join(parts).encode() if not raw else data.draw(st.from_regex(rb"/[!-~]{0,40}", fullmatch=True))
    status = await asked(world, method, path, query.encode(), authorization, data.draw(bodies))
    assert status < 500 or status == 501, (method, path, query)


@given(authorizations)
@example(b"Key \xff:\xff")
@example(b"Key admin:" + b"\xe2\x82\xac")
@example(b"Key admin:s\x00")
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_an_authorization_that_is_none_is_a_401(world: World, authorization: bytes | None):
    if not world.ring._keys:
        await world.make_keys()
    status = await asked(world, "GET", b"/v1/whoami", b"", authorization, b"")
    assert status in ((200, 403) if authorization in _VALID else (401,))


_VALID = [f"Key {name}:{SECRET}".encode() for name in ("admin", "reader", "runners")]
