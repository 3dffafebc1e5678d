"""What becomes of a runner after a response or an end, and what a broken call is called (spec: app-lifecycle.md §5; GAPS A7, A13, B4)."""

from __future__ import annotations

import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keep:
    """It serves on."""


@dataclass(frozen=True, slots=True)
class ProbeLoop:
    """Ask its app's loop for an answer; without one it is terminated."""

    reason: str
    failed: bool = False
    """The call that told so failed: it counts against its revision."""


@dataclass(frozen=True, slots=True)
class Check:
    """Ask for its health now; if it does not answer well it is terminated."""

    reason: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """It takes no new calls, its others get the grace, then it is terminated."""

    reason: str
    failed: bool = False
    unwell: bool = False
    """Its health checks failed: for its revision that is as bad as a crash."""


Fate = Keep | ProbeLoop | Check | Stop

KEEP = Keep()
_YES = ("1", "true")
_NO = ("0", "false")


def after_response(status: int, stop_header: str | None = None, check_header: str | None = None) -> Fate:
    """The runner's fate after an app's response. `stop_header` is the value of `x-fal-stop-runner`, which beats the status; `check_header` that of
    `x-fal-runner-health-check`, which makes a check out of what would be nothing or a ping."""
    wish = stop_header.strip().lower() if stop_header is not None else ""
    if wish in _YES:
        return Stop("the app asked for it with x-fal-stop-runner", failed=status >= 500)
    if status == 503 and wish not in _NO:
        return Stop("the app answered 503", failed=True)
    if check_header is not None and check_header.strip().lower() not in ("", *_NO):
        return Check("the app asked for a check with x-fal-runner-health-check", failed=status >= 500)
    if wish in _NO or status < 500:
        return KEEP
    return ProbeLoop(f"the app answered {status}", failed=True)


def classify_disconnect(headers_received: bool, process_gone: bool) -> str:
    """The error code of a call whose runner broke off: "runner_incomplete_response" if its response had begun, else "runner_disconnected"
    when the process is gone and "runner_connection_error" when only the connection is."""
    if headers_received:
        return "runner_incomplete_response"
    return "runner_disconnected" if process_gone else "runner_connection_error"


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """A process was ended for want of memory. `limit_mb` is its own limit that it went beyond; 0: the machine had no more. `peak_mb` 0: not known."""

    limit_mb: int = 0
    peak_mb: int = 0


def describe_end(code: int | None, signal_number: int | None, error: str = "", memory: OutOfMemory | None = None) -> str:
    """How a process ended, for a reason or an error text: "the process was killed by signal 11 (SIGSEGV)"."""
    if error:
        return f"the process could not be started: {error}"
    if memory is not None and memory.limit_mb:
        held = f"held {memory.peak_mb} MB" if memory.peak_mb else "wanted more"
        return f"the process was ended because it was out of memory: it {held}, and its machine type has {memory.limit_mb} MB"
    if memory is not None:
        held = f"; it held {memory.peak_mb} MB at most" if memory.peak_mb else ""
        return f"the process was killed because the machine was out of memory{held}"
    if signal_number is not None:
        return f"the process was killed by signal {signal_number} ({_signal_name(signal_number)})"
    return "the process ended" if code is None else f"the process exited with code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"
