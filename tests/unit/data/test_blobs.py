from __future__ import annotations

import asyncio
import hashlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost.data.blobs import Blobs
from roost.wire.errors import RoostError


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def incoming(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "blobs" / ".incoming").iterdir())


async def test_what_was_put_is_there_under_its_hash_and_read_only(blobs: Blobs, tmp_path: Path) -> None:
    big = b"x" * 3_000_000
    await blobs.put(sha(b"hello" + big), stream(b"hel", b"lo", big))
    path = blobs.path(sha(b"hello" + big))
    assert path.read_bytes() == b"hello" + big
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert incoming(tmp_path) == []


async def test_an_empty_piece_is_a_piece(blobs: Blobs) -> None:
    await blobs.put(sha(b""), stream())
    assert blobs.path(sha(b"")).read_bytes() == b""


async def test_bytes_of_another_hash_are_refused_and_not_kept(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(RoostError) as failure:
        await blobs.put(sha(b"hello"), stream(b"hell"))
    assert failure.value.status == 422 and sha(b"hell") in failure.value.detail
    assert await blobs.missing([sha(b"hello")]) == [sha(b"hello")]
    assert incoming(tmp_path) == []


async def test_missing_names_each_absent_piece_once_in_order(blobs: Blobs) -> None:
    await blobs.put(sha(b"b"), stream(b"b"))
    assert await blobs.missing([sha(b"c"), sha(b"b"), sha(b"a"), sha(b"c")]) == [sha(b"c"), sha(b"a")]


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n", ""])
async def test_what_is_no_hash_is_no_path(blobs: Blobs, name: str) -> None:
    with pytest.raises(RoostError) as failure:
        blobs.path(name)
    assert failure.value.code == "unprocessable"
    with pytest.raises(RoostError):
        await blobs.missing([name])


async def test_the_same_piece_from_two_at_once_is_stored(blobs: Blobs, tmp_path: Path) -> None:
    await asyncio.gather(*(blobs.put(sha(b"hello"), stream(b"hello")) for _ in range(8)))
    assert blobs.path(sha(b"hello")).read_bytes() == b"hello"
    assert incoming(tmp_path) == []


async def test_an_upload_that_breaks_off_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await blobs.put(sha(b"hello"), broken())
    assert incoming(tmp_path) == []


async def test_an_upload_whose_caller_leaves_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            begun.set()
            yield b"x" * 1_000_000
            await asyncio.sleep(0)

    upload = asyncio.create_task(blobs.put(sha(b"hello"), endless()))
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert incoming(tmp_path) == []


async def test_removing_tells_what_the_disk_got_back(blobs: Blobs, tmp_path: Path) -> None:
    for data in (b"free", b"held"):
        await blobs.put(sha(data), stream(data))
    (tmp_path / "bundle").hardlink_to(blobs.path(sha(b"held")))
    assert await blobs.remove(sha(b"free")) == 4
    assert await blobs.remove(sha(b"held")) == 0
    assert await blobs.remove(sha(b"free")) == 0
    assert len(await blobs.missing([sha(b"free"), sha(b"held")])) == 2


async def test_what_interrupted_uploads_left_is_swept(blobs: Blobs, tmp_path: Path) -> None:
    blobs.sweep()
    left = tmp_path / "blobs" / ".incoming" / "x"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    blobs.sweep()
    assert not left.exists()
    await blobs.put(sha(b"hello"), stream(b"hello"))
