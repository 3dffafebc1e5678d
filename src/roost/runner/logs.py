"""Author's output, tagged by request: replaces `sys.stdout` and `sys.stderr` by writers of records (docs/internals/contracts.md).

The records go to file descriptors 1 and 2, which are opened for appending, one write a record, so that lines of many threads and
of child processes never mix within a line.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from contextvars import ContextVar

RECORD = "\x1e"

current_call: ContextVar[tuple[str, str] | None] = ContextVar("roost_current_call", default=None)
"""(request id, endpoint path) of the call whose code is running."""


class RecordWriter(io.TextIOBase):
    """A text stream whose complete lines become records, tagged with the call that printed them.

    Unfinished lines are kept apart by call and thread: two calls that print piece by piece do not mix.
    """

    def __init__(self, fd: int, source: str) -> None:
        super().__init__()
        self._fd = fd
        self._source = source
        self._partial: dict[tuple[str | None, int], str] = {}
        self._lock = threading.Lock()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # io.TextIOBase declares an attribute
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "replace"

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # authors' code is not type-checked
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        call = current_call.get()
        key = (call[0] if call else None, threading.get_ident())
        with self._lock:
            whole = self._partial.pop(key, "") + text
            *lines, rest = whole.split("\n")
            if rest:
                # A progress bar rewrites its line by carriage returns and may never end it.
                rest = rest[-65536:]
                self._partial[key] = rest
        if lines:
            os.write(self._fd, b"".join(record(line, self._source, call) for line in lines))
        return len(text)

    def flush(self) -> None:
        pass

    def finish_call(self, request_id: str) -> None:
        """Write what a call printed without an end of line."""
        if not self._partial:
            return
        with self._lock:
            rests = [(key, self._partial.pop(key)) for key in list(self._partial) if key[0] == request_id]
        for _, rest in rests:
            os.write(self._fd, record(rest, self._source, current_call.get()))

    def forget(self) -> None:
        """Drop unfinished lines: they are another process's, that this one was forked from."""
        self._partial.clear()

    def finish(self) -> None:
        """Write every unfinished line: the process is about to end."""
        with self._lock:
            rests = list(self._partial.values())
            self._partial.clear()
        for rest in rests:
            os.write(self._fd, record(rest, self._source, None))


def record(line: str, source: str, call: tuple[str, str] | None) -> bytes:
    """One line as a record."""
    body: dict[str, object] = {"t": int(time.time() * 1000), "s": source, "l": line.rstrip("\r")[-65536:]}
    if call is not None:
        body["r"], body["e"] = call
    return (RECORD + json.dumps(body, ensure_ascii=False) + "\n").encode("utf-8", "replace")


class Output:
    """The two author streams and the runner's own talk."""

    def __init__(self) -> None:
        self.out = RecordWriter(1, "out")
        self.err = RecordWriter(2, "err")

    def install(self) -> None:
        sys.stdout = self.out
        sys.stderr = self.err

    def say(self, text: str) -> None:
        """A line of the runner itself."""
        os.write(2, record(text, "sys", None))

    def finish_call(self, request_id: str) -> None:
        self.out.finish_call(request_id)
        self.err.finish_call(request_id)

    def forget(self) -> None:
        """After a fork."""
        self.out.forget()
        self.err.forget()

    def finish(self) -> None:
        self.out.finish()
        self.err.finish()
