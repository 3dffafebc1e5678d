from __future__ import annotations

import hashlib

from roost.core.model import Recipe
from tests.unit.api.world import ADMIN, NOW_MS, READER, STRANGER, World


async def test_a_new_key_opens_at_once_and_a_revoked_one_nothing(world: World):
    made = (await world.call("POST", "/v1/keys", {"alias": "ci", "scope": "ADMIN"})).json
    assert made["key"] == f"{made['key_id']}:{made['key_secret']}"
    mine = {"authorization": f"Key {made['key']}"}
    assert (await world.call("GET", "/v1/keys", key=None, headers=mine)).status == 200
    listed = (await world.call("GET", "/v1/keys")).json["keys"]
    assert [(key["key_id"], key["scope"], key["alias"]) for key in listed if key["key_id"] not in (ADMIN, READER)] == [
        (made["key_id"], "ADMIN", "ci")
    ]
    assert "secret" not in str(listed)
    assert (await world.call("DELETE", f"/v1/keys/{made['key_id']}")).status == 204
    assert (await world.call("GET", "/v1/keys", key=None, headers=mine)).status == 401


async def test_the_store_keeps_no_secret(world: World):
    made = (await world.call("POST", "/v1/keys", {})).json
    stored = await world.store.keys.get(made["key_id"])
    assert stored is not None
    assert stored.scope == "API"
    assert made["key_secret"] not in str(stored)


async def test_the_last_admin_key_cannot_be_revoked(world: World):
    assert (await world.call("DELETE", f"/v1/keys/{ADMIN}")).refusal()[:2] == (409, "conflict")
    assert (await world.call("DELETE", f"/v1/keys/{READER}")).status == 204


async def test_a_strangers_key_and_a_runners_key_are_not_found(world: World):
    for key_id in (STRANGER, "runners", "none"):
        assert (await world.call("DELETE", f"/v1/keys/{key_id}")).status == 404


async def test_a_key_of_an_unknown_scope_is_refused(world: World):
    assert (await world.call("POST", "/v1/keys", {"scope": "RUNNER"})).refusal()[:2] == (422, "unprocessable")


async def test_builds_are_listed_pruned_and_their_log_read(world: World):
    key = "e" * 32
    await world.store.environments.put_pending(key, Recipe("3.11", (("numpy",), ("torch", "pillow")), ()), NOW_MS)
    await world.app("hello")
    world.builds.log_path(key).write_text("resolved 3 packages\n")
    build = (await world.call("GET", "/v1/builds")).json["builds"][0]
    assert (build["key"], build["state"], build["requirements"], build["in_use"]) == (key, "PENDING", ["numpy", "torch", "pillow"], True)
    assert (await world.call("GET", f"/v1/builds/{key}/log")).body == b"resolved 3 packages\n"
    assert (await world.call("GET", "/v1/builds/none/log")).status == 404
    assert (await world.call("POST", "/v1/builds/prune", {"all": True})).json == {"removed": ["k1"], "freed_bytes": 123}
    assert (await world.call("POST", "/v1/builds/prune", {"all": 1})).status == 422
    assert world.builds.pruned == [True]


async def test_a_piece_is_missing_until_it_is_uploaded_whole(world: World):
    sha256 = hashlib.sha256(b"piece").hexdigest()
    assert (await world.call("POST", "/v1/blobs/missing", {"hashes": [sha256]})).json == {"missing": [sha256]}
    assert (await world.call("PUT", f"/v1/blobs/{sha256}", content=b"other")).refusal()[:2] == (422, "unprocessable")
    assert (await world.call("PUT", f"/v1/blobs/{sha256}", content=b"piece")).status == 204
    assert (await world.call("POST", "/v1/blobs/missing", {"hashes": [sha256]})).json == {"missing": []}
    assert (await world.call("POST", "/v1/blobs/missing", {"hashes": "x"})).status == 422
    assert (await world.call("PUT", "/v1/blobs/..%2Fx", content=b"piece")).status == 422
