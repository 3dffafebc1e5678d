from __future__ import annotations

import asyncio
import resource
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from roost.data.payloads import PayloadTrouble
from roost.gateway import body as bodies
from roost.gateway.body import MEMORY_LIMIT, Body, CallerGone
from roost.testkit.loop import VirtualLoop
from roost.web.answers import Receive
from roost.wire.errors import RoostError
from roost.wire.frames import Headers


def arriving(*chunks: bytes, gone: bool = False) -> Receive:
    messages: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if gone:
        messages.append({"type": "http.disconnect"})
    elif messages:
        messages[-1]["more_body"] = False

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    return receive


CHUNKED: Headers = [(b"transfer-encoding", b"chunked")]


async def read(receive: Receive, folder: Path, limit: int = 10 * MEMORY_LIMIT, headers: Headers = CHUNKED) -> Body:
    return await bodies.read(headers, receive, limit, str(folder))


async def test_a_request_without_a_body_reads_nothing(tmp_path: Path) -> None:
    body = await read(arriving(), tmp_path, headers=[])
    assert (body.size, body.first(100)) == (0, b"")


@pytest.mark.parametrize("size", [0, 1, MEMORY_LIMIT, MEMORY_LIMIT + 1, 3 * MEMORY_LIMIT])
async def test_a_body_of_any_size_can_be_read_again_from_its_start(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    chunks = [content[at : at + 300_000] for at in range(0, size, 300_000)] or [b""]
    body = await read(arriving(*chunks), tmp_path)
    for _ in range(2):
        found = b"".join(body.read(at, 100_000) for at in range(0, size, 100_000))
        assert found == content
    assert body.size == size
    assert list(tmp_path.iterdir()) == []
    body.close()


async def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(RoostError) as refused:
        await read(arriving(), tmp_path, limit=10, headers=[(b"content-length", b"11")])
    assert refused.value.status == 413


async def test_a_body_that_turns_out_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RoostError) as refused:
        await read(arriving(b"a" * 6, b"a" * 6), tmp_path, limit=10)
    assert refused.value.status == 413


async def test_a_caller_that_leaves_in_the_middle_of_its_body_is_gone(tmp_path: Path) -> None:
    with pytest.raises(CallerGone):
        await read(arriving(b"a", gone=True), tmp_path)


def test_a_body_that_drips_is_given_up_although_it_never_stops(tmp_path: Path) -> None:
    loop = VirtualLoop()

    async def drip() -> MutableMapping[str, Any]:
        await asyncio.sleep(2)
        return {"type": "http.request", "body": b"x", "more_body": True}

    try:
        with pytest.raises(RoostError) as refused:
            loop.run_until_complete(read(drip, tmp_path))
        assert refused.value.status == 408 and loop.time() <= 2 * bodies.STALL_S
    finally:
        loop.close()


async def test_a_disk_that_does_not_take_a_large_body_is_told(tmp_path: Path) -> None:
    """Not as a failure of ours, of which nobody could tell the cause."""
    with pytest.raises(PayloadTrouble, match="the server's disk fails") as trouble:
        await read(arriving(b"x" * MEMORY_LIMIT, b"x"), tmp_path / "gone")
    assert trouble.value.status == 503
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEMORY_LIMIT, hard))
    try:
        with pytest.raises(PayloadTrouble):
            await read(arriving(b"x" * MEMORY_LIMIT, b"x" * MEMORY_LIMIT), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
