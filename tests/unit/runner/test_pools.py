"""Library threads around a fork: held at one, and given back as they were."""

from __future__ import annotations

import os
import threading

import pytest

from roost.runner.pools import VARIABLES, Pools


@pytest.fixture(autouse=True)
def an_environment_that_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "to be put back")
        monkeypatch.delenv(name)


def test_whoever_is_imported_meanwhile_finds_one_thread() -> None:
    Pools().hold()
    assert {os.environ[name] for name in VARIABLES} == {"1"}


def test_afterwards_the_variables_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    pools = Pools()
    pools.hold()
    pools.release()
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_looking_for_libraries_where_there_are_none_changes_nothing() -> None:
    pools = Pools()
    pools.hold()
    pools.find()
    pools.release()
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
