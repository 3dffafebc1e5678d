"""Identifiers."""

from __future__ import annotations

import os
import uuid

import pytest

from roost.wire import ids


def test_request_ids_are_random_uuids_and_never_the_same():
    given = [ids.request_id() for _ in range(1_000)]
    assert len(set(given)) == 1_000
    assert all(str(uuid.UUID(text)) == text and uuid.UUID(text).version == 4 and uuid.UUID(text).variant == uuid.RFC_4122 for text in given)


# Python 3.12 warns of forks beside threads, which other tests may have left.
@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_process_gives_other_request_ids():
    ids.request_id()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write_end, ids.request_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read_end, 36).decode() != ids.request_id()
    os.close(read_end)
    os.close(write_end)
