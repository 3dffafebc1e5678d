"""Addresses, permissions and errors of the API as a whole."""

from __future__ import annotations

import json

import pytest

from tests.unit.api.world import ADMIN, READER, RUNNERS_KEY, STRANGER, World


async def test_health_needs_no_key_and_names_the_instance(world: World):
    answer = await world.call("GET", "/health", key=None)
    assert answer.json == {"status": "ok", "version": "0.1.0", "uptime_s": 5.0, "instance": "i-1"}
    assert answer.headers["x-fal-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("POST", "/health", 405, "method_not_allowed"),
        ("GET", "/v1/deploy", 405, "method_not_allowed"),
        ("GET", "/v1/apps/ada/nothing", 404, "not_found"),
        ("GET", "/v1/apps/ada", 404, "not_found"),
        ("GET", "/v1/builds/..%2F..%2Fpepper/log", 404, "not_found"),
        ("GET", "/v1/runners/..%2Fx/logs", 404, "not_found"),
    ],
)
async def test_what_is_not_there_is_a_named_error(world: World, method: str, path: str, status: int, code: str):
    answer = await world.call(method, path)
    assert answer.refusal()[:2] == (status, code)
    assert answer.headers["x-fal-error-type"] == code
    assert answer.headers["x-fal-request-id"]


async def test_a_wrong_method_says_which_are_right(world: World):
    answer = await world.call("DELETE", "/v1/keys")
    assert answer.headers["allow"] == "GET, POST"


async def test_a_mistyped_address_gets_a_suggestion(world: World):
    assert (await world.call("GET", "/v1/runner")).json["hint"] == "Did you mean /v1/runners?"


@pytest.mark.parametrize("key", [None, "nobody"])
@pytest.mark.parametrize("path", ["/v1/whoami", "/v1/apps", "/v1/keys"])
async def test_everything_else_needs_a_valid_key(world: World, path: str, key: str | None):
    assert (await world.call("GET", path, key=key)).refusal()[:2] == (401, "unauthorized")


@pytest.mark.parametrize(
    ("key", "path", "status"),
    [
        (READER, "/v1/whoami", 200),
        (READER, "/v1/apps", 200),
        (READER, "/v1/keys", 403),
        (READER, "/v1/runners", 403),
        (READER, "/v1/doctor", 403),
        (RUNNERS_KEY, "/v1/apps", 403),
        (RUNNERS_KEY, "/v1/whoami", 403),
        (ADMIN, "/v1/runners", 200),
    ],
)
async def test_a_keys_scope_decides_what_it_may_do(world: World, key: str, path: str, status: int):
    assert (await world.call("GET", path, key=key)).status == status


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"{", "not valid JSON"), (b"[1]", "must be a JSON object, not a list"), (b"\xff", "not valid JSON"), (b"null", "not null")],
)
async def test_a_body_that_is_no_json_object_is_refused(world: World, content: bytes, said: str):
    status, code, detail = (await world.call("POST", "/v1/keys", content=content)).refusal()
    assert (status, code) == (400, "bad_request")
    assert said in detail


async def test_a_body_over_the_limit_is_refused_before_it_is_read(world: World):
    answer = await world.call("POST", "/v1/keys", content=b"{}", headers={"content-length": str(33 * 1024 * 1024)})
    assert answer.refusal()[:2] == (413, "payload_too_large")


async def test_the_request_id_of_the_gateway_is_answered(world: World):
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    # The gateway gives the path that the role sees, which is not the one that the caller sent.
    scope = {"type": "http", "method": "GET", "path": "/x", "raw_path": b"/health", "headers": [], "roost.request_id": "the-id"}
    await world.asgi(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 200
    assert (b"x-fal-request-id", b"the-id") in sent[0]["headers"]  # type: ignore[operator]


async def test_whoami_says_what_fits_this_machine(world: World):
    me = (await world.call("GET", "/v1/whoami")).json
    assert (me["owner"], me["key_id"], me["scope"], me["python"]) == ("ada", "admin", "ADMIN", ["3.11"])
    assert me["machine_types"]["S"] == {"cpus": 1, "memory_mb": 1024, "gpus": 0, "gpu_model": "", "fits": True}
    assert not me["machine_types"]["GPU-H100"]["fits"]


async def test_doctor_has_a_hint_for_all_that_is_wrong(world: World):
    checks = (await world.call("GET", "/v1/doctor")).json["checks"]
    assert {"database", "disk", "machine"} <= {check["name"] for check in checks}
    assert all(check["hint"] for check in checks if not check["ok"])


async def test_a_restart_is_asked_for_and_told(world: World):
    answer = await world.call("POST", "/v1/restart")
    assert json.loads(answer.body) == {"event": "restarting"}
    assert world.restarts == 1


async def test_a_strangers_app_is_as_unknown_as_none(world: World):
    await world.app("hello")
    own, foreign = await world.call("GET", "/v1/apps/ada/none"), await world.call("GET", "/v1/apps/ada/hello", key=STRANGER)
    assert foreign.refusal() == (404, "not_found", 'Application "ada/hello" not found')
    assert own.json["hint"] == foreign.json["hint"]
    assert (await world.call("GET", "/v1/apps", key=STRANGER)).json == {"apps": []}


async def test_a_stream_whose_store_was_handed_over_says_that_the_server_restarts(world: World):
    await world.app("hello")
    stream = world.stream("GET", "/v1/apps/ada/hello/logs?follow=1")
    await world.lines("/v1/apps/ada/hello/logs")
    await world.store.close()
    assert await stream.rest() == [{"event": "restarting"}]


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/keys", "/v1/apps", "/health"])
@pytest.mark.parametrize("key", [None, ADMIN])
async def test_pages_of_others_can_read_nothing_of_the_control_plane(world: World, path: str, key: str | None):
    answer = await world.call("GET", path, key=key)
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("opening", [b'{"a":', b"["])
@pytest.mark.parametrize("depth", [65, 900, 200_000])
async def test_a_body_that_is_nested_too_deep_is_refused_with_a_sentence(world: World, opening: bytes, depth: int):
    closing = b"}" if opening.startswith(b"{") else b"]"
    inner = opening * (depth - 1) + (b"1" if opening.startswith(b"{") else b"") + closing * (depth - 1)
    status, code, detail = (await world.call("POST", "/v1/keys", content=b'{"alias": ' + inner + b"}")).refusal()
    assert (status, code) == (400, "bad_request") and "nested deeper than 64" in detail


async def test_a_body_of_64_levels_is_taken(world: World):
    content = b'{"scope": "ADMIN", "alias": "a", "x": ' + b"[" * 63 + b"]" * 63 + b"}"
    assert (await world.call("POST", "/v1/keys", content=content)).status in (201, 422)


async def test_doctor_says_how_limits_are_kept_and_what_is_left(world: World):
    checks = {check["name"]: check for check in (await world.call("GET", "/v1/doctor")).json["checks"]}
    assert checks["gpus"]["detail"] == "0: NVIDIA L40 (46068 MB) (from: NVML)"
    assert checks["memory limits"]["detail"] == "by control groups (version 2)"
    assert checks["free memory"] == {"name": "free memory", "ok": True, "detail": "4000 MB left; runners are started above 256 MB"} | {
        "hint": checks["free memory"]["hint"]
    }


async def test_doctor_says_when_memory_is_short_or_nobody_knows_of_limits(world: World):
    world.available_mb, world.enforcement = 100, None
    checks = {check["name"]: check for check in (await world.call("GET", "/v1/doctor")).json["checks"]}
    assert not checks["free memory"]["ok"]
    assert "the supervisor does not know 'enforcement'" in checks["limits"]["detail"]
    assert all(check["hint"] for check in checks.values() if not check["ok"])
