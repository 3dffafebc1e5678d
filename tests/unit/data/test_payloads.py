"""Large bodies: durable when they are named, whole or a named error when they are read, gone when nothing names them."""

from __future__ import annotations

import errno
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from roost.core.requests import Content
from roost.data.payloads import BLOCK, INLINE, DamagedPayload, Growing, Payloads, PayloadTrouble

BODY = bytes(range(256)) * 1024 + b"the end"  # four blocks and a bit


@pytest.fixture
def payloads(tmp_path: Path) -> Payloads:
    return Payloads(tmp_path / "payloads")


def files(payloads: Payloads) -> list[str]:
    return sorted(path.name for path in payloads.folder.rglob("*") if path.is_file())


def whole(payloads: Payloads, content: Content, portion: int = 100_000) -> bytes:
    assert content.inline is None
    return b"".join(payloads.read(content.file, start, portion) for start in range(0, content.size, portion))


@pytest.mark.parametrize("size", [0, 1, INLINE])
async def test_a_small_body_stays_in_memory(payloads: Payloads, size: int) -> None:
    assert await payloads.put(b"x" * size) == Content(size, b"x" * size)
    assert not payloads.folder.exists()


@pytest.mark.parametrize("size", [INLINE + 1, 2 * BLOCK, 2 * BLOCK + 1, 1_500_000])
async def test_a_larger_one_is_a_file_that_reads_the_same(payloads: Payloads, size: int) -> None:
    body = (BODY * (size // len(BODY) + 1))[:size]
    content = await payloads.put(body)
    assert (content.size, content.inline) == (size, None)
    assert whole(payloads, content) == body
    path = payloads.folder / content.file[:2] / content.file
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert files(payloads) == [content.file]


async def test_the_same_body_twice_is_two_files(payloads: Payloads) -> None:
    """So that one can go while the other is still named."""
    first, second = await payloads.put(BODY), await payloads.put(BODY)
    await payloads.remove([first.file])
    assert whole(payloads, second) == BODY


@pytest.mark.parametrize(
    ("start", "limit"), [(0, 10), (BLOCK - 1, 2), (BLOCK, BLOCK), (len(BODY) - 3, 100), (len(BODY), 10), (0, 10**9), (5 * BLOCK, 5)]
)
async def test_any_part_can_be_read(payloads: Payloads, start: int, limit: int) -> None:
    content = await payloads.put(BODY)
    assert payloads.read(content.file, start, limit) == BODY[start : start + limit]


async def test_a_body_that_arrives_in_pieces_is_the_same_body(payloads: Payloads) -> None:
    growing = Growing(payloads)
    body = BODY * 4
    pieces = [body[at : at + 30_001] for at in range(0, len(body), 30_001)]
    for piece in pieces[:-1]:
        await growing.add(piece)
    content = await growing.end(pieces[-1])
    growing.discard()
    assert content.size == len(body)
    assert whole(payloads, content) == body


@pytest.mark.parametrize("pieces", [0, 1, 40])
async def test_a_body_that_does_not_come_to_its_end_leaves_nothing(payloads: Payloads, pieces: int) -> None:
    growing = Growing(payloads)
    for _ in range(pieces):
        await growing.add(BODY)
    growing.discard()
    growing.discard()
    assert not payloads.folder.exists() or files(payloads) == []


def flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: flipped(path, 100), "bytes from 0 on"),
        (lambda path: flipped(path, len(BODY) - 1), f"bytes from {4 * BLOCK} on"),
        (lambda path: flipped(path, len(BODY) + 3), "what follows it was changed"),
        (lambda path: flipped(path, len(BODY) + 5 * 16 + 7), "what follows it was changed"),
        (lambda path: (path.chmod(0o600), path.write_bytes(path.read_bytes()[:-30])), "what follows it was changed"),
        (lambda path: (path.chmod(0o600), path.write_bytes(b"")), "what follows it was changed"),
    ],
)
async def test_a_file_that_is_not_what_was_written_is_a_named_error_and_never_wrong_bytes(
    payloads: Payloads, harm: Callable[[Path], object], said: str
) -> None:
    content = await payloads.put(BODY)
    harm(payloads.folder / content.file[:2] / content.file)
    with pytest.raises(DamagedPayload, match=said) as damaged:
        Payloads(payloads.folder).read(content.file, 0, content.size)
    assert (damaged.value.code, damaged.value.status) == ("internal_error", 500)


async def test_every_flipped_bit_is_noticed(payloads: Payloads) -> None:
    content = await payloads.put(b"x" * (INLINE + 10))
    path = payloads.folder / content.file[:2] / content.file
    for at in range(0, path.stat().st_size, 997):
        flipped(path, at)
        with pytest.raises(DamagedPayload):
            Payloads(payloads.folder).read(content.file, 0, content.size)
        flipped(path, at)
    assert whole(Payloads(payloads.folder), content) == b"x" * (INLINE + 10)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a" * 63, "A" * 64])
async def test_only_names_of_bodies_become_paths(payloads: Payloads, name: str) -> None:
    with pytest.raises(DamagedPayload, match="no name of a body"):
        payloads.read(name, 0, 1)
    await payloads.remove([name])


async def test_a_sweep_removes_what_no_row_names_and_what_was_half_written(payloads: Payloads) -> None:
    named, orphan = await payloads.put(BODY), await payloads.put(BODY)
    half = Growing(payloads)
    for _ in range(4):
        await half.add(BODY)
    assert await payloads.sweep({named.file}) == 1
    assert files(payloads) == [named.file]
    with pytest.raises(DamagedPayload, match="missing"):
        payloads.read(orphan.file, 0, 1)
    half.discard()


async def test_removing_one_that_is_not_there_is_no_error(payloads: Payloads) -> None:
    content = await payloads.put(BODY)
    await payloads.remove([content.file, content.file])
    await payloads.remove([])
    assert files(payloads) == []


@contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_does_not_take_it_is_told_and_nothing_is_kept(payloads: Payloads) -> None:
    with no_file_grows_beyond(BLOCK), pytest.raises(PayloadTrouble, match="the body was not kept") as trouble:
        await payloads.put(BODY)
    assert trouble.value.status == 503  # EFBIG, which is how a limit on files looks
    assert files(payloads) == []
    assert whole(payloads, await payloads.put(BODY)) == BODY


@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, 507), (errno.EDQUOT, 507), (errno.EIO, 503)])
async def test_a_full_disk_has_its_own_status(payloads: Payloads, number: int, status: int) -> None:
    class Full(Growing):
        def _write(self, portion: bytes) -> None:
            raise OSError(number, "as armed")

    growing = Full(payloads)
    with pytest.raises(PayloadTrouble) as trouble:
        await growing.end(BODY)
    growing.discard()
    assert trouble.value.status == status
