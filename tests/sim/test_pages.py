"""What pages of others may read and ask (faults.md S-07, S-27): calls and the queue, and nothing of the control plane."""

from __future__ import annotations

import pytest

from roost.testkit.world import World

PAGE = {"origin": "https://page.example", "sec-fetch-site": "cross-site"}


@pytest.mark.parametrize("path", ["/me/nothing", "/_queue/me/nothing", "/_queue/me/app/requests/x/status"])
async def test_any_page_may_read_why_a_call_failed(world: World, path: str) -> None:
    reply = await world.call(path, headers=PAGE)
    assert reply.status in (404, 405) and reply.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "path", ["/v1/keys", "/v1/restart", "/applications/me/app/queue", "/_rest/applications/me/app/queue", "/dashboard"]
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
async def test_no_page_of_others_may_ask_the_control_plane(world: World, path: str, method: str) -> None:
    reply = await world.call(path, method=method, headers=PAGE)
    assert (reply.status, reply.error_type) == (403, "forbidden") and "https://page.example" in reply.detail
    assert not [name for name in reply.headers if name.startswith("access-control-")]
