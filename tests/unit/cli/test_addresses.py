from __future__ import annotations

import pytest

from roost.cli.addresses import block, key_in_shell
from roost.client.config import Target
from roost.control.events import Endpoint, Ready
from roost.wire.manifest import Manifest
from roost.wire.spec import AppSpec, EndpointSpec

SPEC = AppSpec("hello", "Hello", "3.11", endpoints=(EndpointSpec("/", "go"), EndpointSpec("/live", "live", is_websocket=True)))
OPENAPI = {"paths": {"/": {"post": {"requestBody": {"content": {"application/json": {"schema": {"example": {"n": 1}}}}}}}}}
MANIFEST = Manifest(SPEC, "0" * 64, "0.1.0", OPENAPI)
ENDPOINTS = (Endpoint("/", "http://h/me/hello"), Endpoint("/live", "http://h/me/hello/live"))


def test_the_block_has_who_may_call_every_url_and_a_line_to_paste_for_all_but_websockets() -> None:
    assert block(Ready("me/hello", "r1", "public", "http://h/me/hello", ENDPOINTS), MANIFEST, "$ROOST_KEY") == [
        "── me/hello ".ljust(72, "─"),
        "Auth  public: whoever reaches the address may call it",
        "URL   http://h/me/hello",
        "      http://h/me/hello/live  (websocket)",
        "",
        "  curl http://h/me/hello -H 'Content-Type: application/json' -d '{\"n\": 1}'",
        "",
    ]


def test_only_apps_that_are_not_public_get_a_key() -> None:
    lines = block(Ready("me/hello", "r1", "private", "http://h/me/hello", ENDPOINTS), MANIFEST, "$ROOST_KEY")
    assert '-H "Authorization: Key $ROOST_KEY"' in lines[-2]


def test_the_key_is_the_variable_if_it_is_set_and_else_the_command_that_prints_it(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("http://h", "id:secret", key_from="profile 'p' in config.toml")
    monkeypatch.setenv("ROOST_KEY", "id:secret")
    assert key_in_shell(target, "") == "$ROOST_KEY"
    monkeypatch.delenv("ROOST_KEY")
    assert key_in_shell(target, "p q").endswith(" keys current --profile 'p q')")
    assert "secret" not in key_in_shell(target, "")
