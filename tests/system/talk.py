"""A command that goes on, and what it says, line by line as it says it."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from types import TracebackType

from typing_extensions import Self

from tests.system.roosts import PATIENCE_S, until


class Talk:
    """Use it with `with`: a command that still goes on when it is left is killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.heard: list[tuple[float, str]] = []
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def text(self) -> str:
        return "\n".join(line for _, line in self.heard)

    def lines(self, part: str) -> list[str]:
        return [line for _, line in self.heard if part in line]

    def says(self, part: str, *, patience_s: float = PATIENCE_S, times: int = 1) -> str:
        """The line with `part`, as soon as it was said (so many times)."""

        def said() -> str:
            found = self.lines(part)
            assert len(found) >= times or self.process.poll() is None or self._reader.is_alive(), f"it ended without {part!r}:\n{self.text}"
            return found[times - 1] if len(found) >= times else ""

        try:
            return until(part, said, patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it said:\n{self.text}") from None

    def url(self) -> str:
        """The first address that it prints."""
        return self.says("URL ").split()[1]

    def interrupt(self) -> float:
        """Ctrl-C; answers how long the command needed to end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        self._reader.join(10)
        return time.monotonic() - began

    def ends(self, patience_s: float = PATIENCE_S) -> int:
        """Its exit code."""
        code = self.process.wait(patience_s)
        self._reader.join(10)
        return code

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.heard.append((time.monotonic(), line.rstrip("\n")))
