"""Stages of a start, as the response header tells them."""

from __future__ import annotations

from benchmarks.cold import stages_of
from roost.core import stages


def test_stages_are_read_as_the_server_writes_them():
    written = stages.header((("decide", 0.4), ("fork", 3.1), ("setup", 12.0)))
    assert stages_of(written) == {"decide": 0.4, "fork": 3.1, "setup": 12.0}


def test_without_the_header_there_are_no_stages():
    assert stages_of("") == {}
