"""Each write can be made to fail before it, in it, and after it when it is done: the error says nothing about which (faults.md F-31)."""

from __future__ import annotations

import subprocess
import sys

import pytest

WRITER = """
import asyncio
from roost.kit.clock import SystemClock
from roost.store import MEMORY, Store, StoreError

async def main():
    store = await Store.open(MEMORY, SystemClock())
    for key in ("a", "b"):
        try:
            await store.meta.set(key, "1")
            print("stored", end=" ")
        except StoreError as error:
            print(error.status, end=" ")
    print(await store.meta.get("a"), await store.meta.get("b"))

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("armed", "said"),
    [
        ("", "stored stored 1 1"),
        ("meta.set:before=raise", "503 stored None 1"),
        ("meta.set:inside=raise", "503 stored None 1"),
        ("meta.set:after=raise", "503 stored 1 1"),
        ("meta.*@100%=lost", "503 503 1 1"),
        ("keys.*@100%=lost", "stored stored 1 1"),
    ],
)
def test_a_write_fails_where_it_is_told_to(armed: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITER], env={"ROOST_FAILPOINTS": armed}, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == said
