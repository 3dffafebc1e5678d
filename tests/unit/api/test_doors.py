from __future__ import annotations

import pytest

from tests.unit.api.world import World


@pytest.mark.parametrize("path", ["/tokens/", "/tokens", "/tokens/realtime", "/%74okens/"])
async def test_who_wants_a_token_hears_that_there_are_none_and_what_to_do(world: World, path: str):
    answer = await world.call("POST", path, {"allowed_apps": ["app"], "token_expiration": 120}, key=None)
    assert answer.refusal()[:2] == (501, "not_implemented")
    assert "tokens" in answer.json["detail"] and "/api/fal/proxy" in answer.json["hint"]
    assert answer.headers["x-fal-request-id"]


@pytest.mark.parametrize(
    "path",
    [
        "/storage/auth/token?storage_type=fal-cdn-v3",
        "/storage/upload/initiate?storage_type=fal-cdn-v3",
        "/storage/upload/initiate-multipart",
        "/files/upload",
        "/files/upload/multipart",
    ],
)
async def test_who_wants_to_upload_hears_how_a_file_reaches_an_app_without(world: World, path: str):
    answer = await world.call("POST", path, {"content_type": "image/png", "file_name": "a.png"}, key=None)
    assert answer.refusal()[:2] == (501, "not_implemented")
    assert "uploads" in answer.json["detail"] and "data URI" in answer.json["hint"]


async def test_the_doors_take_what_clients_send_and_nothing_else(world: World):
    assert (await world.call("GET", "/tokens/")).status == 405
    assert (await world.call("POST", "/storage")).status == 404
