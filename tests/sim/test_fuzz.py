"""Whatever is sent to the gateway in well-formed HTTP: an answer of the app or a named refusal, and never a failure of ours (faults.md K)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, example, given, settings

from roost.testkit.dialling import Dialling, request_bytes
from roost.testkit.loop import VirtualLoop
from roost.testkit.script import Answer, Script, always
from roost.testkit.world import World
from roost.web import roles
from roost.wire.errors import CODES

ID = "00000000-0000-4000-8000-000000000000"
VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#")
segments = st.one_of(
    st.sampled_from(["me", "app", "requests", ID, "status", "stream", "cancel", "response", "", ".", "..", "%2e%2e", "%00", "%0d%0a", "%ff",
                     "_queue", "_run", "_ws", "_rest", "workflows", "comfy", "123-app", "app--staging", "v1", "~", "a" * 300]),
    st.text(VISIBLE, max_size=12).map(lambda text: text.replace("/", "").replace("?", "")),
)  # fmt: skip
begins = st.sampled_from(["", "/me/app", "/_queue/me/app", f"/_queue/me/app/requests/{ID}", f"/_queue/me/app/requests/{ID}/status"])
paths = st.builds(lambda begin, parts: begin + "".join(f"/{part}" for part in parts) or "/", begins, st.lists(segments, max_size=4))
queries = st.one_of(
    st.just(""),
    st.text(VISIBLE, max_size=40),
    st.builds(
        lambda name, value: f"{name}={value}",
        st.sampled_from(["fal_webhook", "fal_max_queue_length", "logs", "fal_jwt_token", "max_buffering", "fal_x"]),
        st.text(VISIBLE, max_size=20),
    ),
)
values = st.one_of(
    st.binary(max_size=30).map(lambda value: bytes(byte for byte in value if byte == 9 or 32 <= byte != 127)),
    st.sampled_from(
        [
            b"",
            b"0",
            b"-1",
            b"nan",
            b"inf",
            b"1e308",
            b"0.1",
            b"low",
            b"\xd9\xa3",
            b"[" * 500,
            b'{"server_error":{"retries":1e999}}',
            b"9" * 400,
        ]
    ),
)
headers = st.lists(
    st.tuples(
        st.sampled_from(
            [b"authorization", b"last-event-id", b"x-fal-request-timeout", b"x-fal-queue-priority", b"x-fal-retry-config", b"x-fal-no-retry",
             b"x-fal-store-io", b"x-fal-runner-hint", b"x-fal-object-lifecycle-preference", b"idempotency-key", b"x-fal-target-url",
             b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-prefix", b"origin", b"accept", b"traceparent", b"x-roost-trace",
             b"x-roost-passed-on", b"content-type", b"range", b"upgrade", b"expect", b"cookie", b"x-fal-request-id"]
        ),
        values,
    ),
    max_size=4,
)  # fmt: skip
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])


@dataclass
class Here:
    world: World
    loop: VirtualLoop


@pytest.fixture(scope="module")
def here(home: Path) -> Iterator[Here]:
    loop = VirtualLoop()
    world = loop.run_until_complete(World.open(home))
    loop.run_until_complete(world.app(Script(answer=always(Answer())), min_concurrency=1, max_multiplexing=20))
    loop.run_until_complete(world.advance(3))
    yield Here(world, loop)
    loop.run_until_complete(world.close())
    loop.close()


@given(methods, paths, queries, headers, st.binary(max_size=30))
@example("GET", f"/_queue/me/app/requests/{ID}/status/stream", "logs=1", [(b"last-event-id", b"\xff\x00".replace(b"\x00", b""))], b"")
@example("POST", "/_queue/me/app", "fal_webhook=http://127.0.0.1/", [], b"{}")
@example("POST", "/_queue/me/app", "", [(b"x-fal-retry-config", b"[" * 15_000)], b"{}")
@example("POST", "/me/app", "", [(b"x-fal-request-timeout", b"1e999")], b"{}")
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_request_makes_the_gateway_fail(
    here: Here, method: str, path: str, query: str, fields: list[tuple[bytes, bytes]], body: bytes
) -> None:
    # The control plane is not here: tests/unit/api/test_fuzz.py.
    assume(roles.address(b"roost.test", path.encode()).role not in ("api", "rest"))

    async def case() -> None:
        world = here.world
        given_ = [(b"host", b"roost.test"), (b"content-length", b"%d" % len(body)), *fields]
        target = f"{path}?{query}" if query else path
        dialling = Dialling(world.server.http.newcomer(), [request_bytes(method, target, given_, body)], world.clock.now_ms)
        await world.advance(2)
        status = dialling.reply.status
        dialling.hang_up()
        await world.settle()
        assert status and (status < 500 or dialling.reply.error_type == "not_implemented"), (status, dialling.received)
        if dialling.reply.error_type:
            assert dialling.reply.error_type in CODES
        assert dialling.reply.headers["x-fal-request-id"]

    here.loop.run_until_complete(case())
