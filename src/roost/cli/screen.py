"""Shows a deploy or a run: steps and talk on stderr, with a spinner on a terminal and plain lines elsewhere; logs where told."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from typing_extensions import Self

from roost.cli.loglines import DIM, log_text, paint
from roost.cli.narrate import Kind, Line, Scene, narrate
from roost.cli.output import colourful
from roost.control.events import Event

if TYPE_CHECKING:
    from rich.live import Live

KEPT_BUILD_LINES = 20
WORTH_A_BAR = 1_000_000
GREEN = 32


class Screen:
    """Use it with `with`: leaving it takes the spinner away.

    `logs` is where authors' output goes: stdout for a run, whose data it is; stderr for a deploy, whose data is the result.
    """

    def __init__(self, logs: TextIO, *, clock: Callable[[], float] = monotonic) -> None:
        self._logs = logs
        self._clock = clock
        self._scene = Scene()
        self._terminal = sys.stderr.isatty()
        self._build_log: deque[Line] = deque(maxlen=KEPT_BUILD_LINES)
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, traceback: object) -> None:
        self.quiet()
        # With a spinner the build's output was only hinted at; a failure makes it worth reading.
        if exc is not None and not isinstance(exc, (KeyboardInterrupt, SystemExit)):
            while self._build_log:
                self._log(self._build_log.popleft())

    def show(self, event: Event) -> None:
        self._scene, lines = narrate(self._scene, event, self._now_ms())
        for line in lines:
            self._line(line)
        if self._terminal:
            self._spin() if self._scene.step else self.quiet()

    def done(self, text: str) -> None:
        """Say that something on this side is finished."""
        self._line(Line(Kind.DONE, text))

    def note(self, text: str) -> None:
        self._line(Line(Kind.NOTE, text))

    def quiet(self) -> None:
        """Take the spinner away until the next step."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _line(self, line: Line) -> None:
        match line.kind:
            case Kind.BEGIN | Kind.RUNNING:
                if not self._terminal:
                    self._put(f"  {line.text}", sys.stderr)
            case Kind.DONE:
                self._put(f"{paint('✓', GREEN) if colourful(sys.stderr) else '✓'} {line.text}", sys.stderr)
                self._build_log.clear()
            case Kind.NOTE:
                self._put(f"  {paint(line.text, DIM) if colourful(sys.stderr) else line.text}", sys.stderr)
            case Kind.BUILD_LOG if self._terminal:
                self._build_log.append(line)
            case Kind.BUILD_LOG | Kind.LOG:
                self._log(line)

    def _log(self, line: Line) -> None:
        assert line.log is not None
        self._put(log_text(line.log, colour=colourful(self._logs)), self._logs)

    def _put(self, text: str, stream: TextIO) -> None:
        if self._live is not None and stream.isatty():
            from rich.text import Text

            # Above the spinner: written past it, the line would land in the middle of its text.
            self._live.console.print(Text.from_ansi(text), soft_wrap=True)
        else:
            print(text, file=stream, flush=True)

    def _spin(self) -> None:
        if self._live is not None:
            return
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        spinner = Spinner("dots")

        def frame() -> Spinner:
            spinner.update(text=Text(self._scene.caption(self._now_ms()), no_wrap=True, overflow="ellipsis"))
            return spinner

        console = Console(stderr=True)
        self._live = Live(
            get_renderable=frame, console=console, refresh_per_second=10, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)


class UploadBar:
    """How far an upload is: a bar on a terminal, nothing elsewhere and for what is sent in no time (the caller says when it is done)."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._stop: Callable[[], None] = lambda: None
        self._move: Callable[[int, int], None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()

    def __call__(self, sent: int, total: int) -> None:
        if self._move is None and self._terminal and total >= WORTH_A_BAR:
            self._begin(total)
        if self._move is not None:
            self._move(sent, total)

    def _begin(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("Uploading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False)
        progress.start()
        task = progress.add_task("upload", total=total)
        self._move = lambda sent, total: progress.update(task, completed=sent, total=total)
        self._stop = progress.stop
