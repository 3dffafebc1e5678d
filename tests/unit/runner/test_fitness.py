"""What stands in the way of a fork is found, named and placed. What a test leaves behind on purpose, it takes away again."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from roost.runner import fitness


def test_a_plain_process_is_fit() -> None:
    # A process of its own: this one may still have children and threads of other tests.
    ask = "from roost.runner import fitness; print(fitness.findings(fitness.open_files()))"
    assert subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.strip() in ("[]", "()")


def test_a_thread_is_named_with_the_line_that_it_runs() -> None:
    go = threading.Event()

    def beat() -> None:
        go.wait()

    thread = threading.Thread(target=beat, name="heart")
    thread.start()
    try:
        [found] = [found for found in fitness.findings(fitness.open_files()) if "'heart'" in found]
    finally:
        go.set()
        thread.join()
    assert f"in beat() of {__file__}:" in found
    assert found.endswith("start it in setup()")


@pytest.mark.parametrize(("make", "what"), [(socket.socket, "a socket was left open"), (os.pipe, "a pipe, 2 times, was left open")])
def test_what_was_opened_since_is_found(make: type, what: str) -> None:
    before = fitness.open_files()
    made = make()
    try:
        [found] = [found for found in fitness.findings(before) if "left open" in found]
    finally:
        made.close() if isinstance(made, socket.socket) else [os.close(fd) for fd in made]
    assert found.startswith(what)


def test_an_event_loop_is_more_than_its_sockets() -> None:
    before = fitness.open_files()
    loop = asyncio.new_event_loop()
    try:
        found = fitness.findings(before)
    finally:
        loop.close()
    assert any(sentence.startswith("an event loop (epoll) was left open") for sentence in found)


def test_a_child_process_is_named_by_its_command() -> None:
    child = subprocess.Popen(["sleep", "600"])
    try:
        # We go on while the kernel is still exchanging the program.
        while not Path(f"/proc/{child.pid}/cmdline").read_bytes():
            pass
        found = fitness.findings(fitness.open_files())
    finally:
        child.kill()
        child.wait()
    assert any("a process was left running (sleep 600)" in sentence for sentence in found), found


def test_an_initialised_cuda_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = types.ModuleType("torch")
    torch.cuda = types.SimpleNamespace(is_initialized=lambda: True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert any(sentence.startswith("CUDA is initialised") for sentence in fitness.findings(fitness.open_files()))
