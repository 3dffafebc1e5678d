"""What an author prints becomes records, each tagged with the call that printed it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator

import pytest

from roost.runner.logs import RECORD, RecordWriter, current_call


class Printed:
    """A writer and what came out of it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self.writer = RecordWriter(self.fd, "out")

    def records(self) -> list[dict[str, object]]:
        with open(self.path, encoding="utf-8") as file:
            lines = file.read().split("\n")[:-1]
        assert all(line.startswith(RECORD) for line in lines)
        return [json.loads(line[1:]) for line in lines]

    def lines(self) -> list[object]:
        return [record["l"] for record in self.records()]


@pytest.fixture
def printed(tmp_path) -> Iterator[Printed]:
    one = Printed(str(tmp_path / "log"))
    yield one
    os.close(one.fd)


def test_each_line_is_a_record_with_its_time_and_stream(printed: Printed):
    print("one\ntwo", file=printed.writer)
    assert printed.lines() == ["one", "two"]
    assert {record["s"] for record in printed.records()} == {"out"}
    assert all(isinstance(record["t"], int) for record in printed.records())


def test_a_line_printed_piece_by_piece_is_one_record(printed: Printed):
    print("a", end="", file=printed.writer)
    print("b", end="", file=printed.writer, flush=True)
    assert printed.lines() == []
    print("c", file=printed.writer)
    assert printed.lines() == ["abc"]


def test_lines_carry_the_request_that_printed_them(printed: Printed):
    token = current_call.set(("req-1", "/x"))
    print("inside", file=printed.writer)
    current_call.reset(token)
    print("outside", file=printed.writer)
    inside, outside = printed.records()
    assert (inside["r"], inside["e"]) == ("req-1", "/x")
    assert "r" not in outside


def test_unfinished_lines_of_two_calls_do_not_mix(printed: Printed):
    first = current_call.set(("one", "/"))
    printed.writer.write("first ")
    current_call.reset(first)
    second = current_call.set(("two", "/"))
    printed.writer.write("second\n")
    current_call.reset(second)
    printed.writer.finish_call("one")
    assert printed.lines() == ["second", "first "]


def test_the_rest_of_an_unfinished_line_is_written_at_the_end_of_the_process(printed: Printed):
    printed.writer.write("progress 100%")
    printed.writer.finish()
    assert printed.lines() == ["progress 100%"]


def test_lines_of_many_threads_stay_whole(printed: Printed):
    def work(number: int) -> None:
        for _ in range(50):
            print(f"{number}" * 200, file=printed.writer)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(map(str, printed.lines()))) == [f"{n}" * 200 for n in range(4)]
    assert len(printed.lines()) == 200


def test_text_that_is_no_unicode_is_written_all_the_same(printed: Printed):
    print("bad \udcff end", file=printed.writer)
    assert len(printed.lines()) == 1
