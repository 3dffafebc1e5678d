"""Load from wrk (https://github.com/wg/wrk): so many callers at once, each with one call at a time, for a while."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# wrk rounds what it prints; this line has what it counted, in microseconds.
_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("measured calls=%d us=%d p50=%d p99=%d max=%d status=%d broken=%d\\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""
_MEASURED = re.compile(r"^measured calls=(\d+) us=(\d+) p50=(\d+) p99=(\d+) max=(\d+) status=(\d+) broken=(\d+)$", re.MULTILINE)


class WrkFailed(Exception):
    """wrk is missing, could not run, or said what we do not understand."""


@dataclass(frozen=True, slots=True)
class Post:
    """The call that is made over and over."""

    url: str
    body: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    traced: bool = False
    """Each call's head differs from all others, as those of callers with tracing do."""

    def script(self) -> str:
        lines = ['wrk.method = "POST"', f"wrk.body = {_quoted(self.body)}", 'wrk.headers["Content-Type"] = "application/json"']
        lines += [f"wrk.headers[{_quoted(name)}] = {_quoted(value)}" for name, value in self.headers.items()]
        if self.traced:
            lines.append("local n = 0")
            name = 'wrk.headers["traceparent"] = string.format("00-%032x-0000000000000001-01", n)'
            lines.append(f"request = function()\n  n = n + 1\n  {name}\n  return wrk.format()\nend")
        return "\n".join(lines) + _DONE


@dataclass(frozen=True, slots=True)
class Gets:
    """Many addresses of one server, asked for in turn."""

    url: str
    """Scheme, host and port."""
    paths: tuple[str, ...]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def script(self) -> str:
        fields = ", ".join(f"[{_quoted(name)}] = {_quoted(value)}" for name, value in self.headers.items())
        paths = ",\n".join(_quoted(path) for path in self.paths)
        turn = "request = function()\n  at = at % #paths + 1\n  return requests[at]\nend"
        made = "init = function()\n  for n, path in ipairs(paths) do requests[n] = wrk.format('GET', path, fields) end\nend"
        return f"local paths = {{{paths}}}\nlocal fields = {{{fields}}}\nlocal requests, at = {{}}, 0\n{made}\n{turn}\n{_DONE}"


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw. `refused` are answers other than 2xx and 3xx, `broken` connections that failed."""

    calls: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    refused: int = 0
    broken: int = 0

    @property
    def calls_s(self) -> float:
        return self.calls / self.seconds


def parse(output: str) -> Load:
    """wrk's output with the line of our script in it. Raises WrkFailed."""
    found = _MEASURED.search(output)
    if found is None:
        raise WrkFailed(f"wrk's output has no figures:\n{output}")
    calls, us, p50, p99, longest, refused, broken = (int(number) for number in found.groups())
    return Load(calls, us / 1e6, p50 / 1000, p99 / 1000, longest / 1000, refused, broken)


def require() -> None:
    """Raises WrkFailed with what to do when wrk is not installed."""
    if shutil.which("wrk") is None:
        raise WrkFailed("wrk makes the load and is not installed. Install it: sudo apt-get install wrk")


def press(post: Post | Gets, callers: int, seconds: int) -> Load:
    """Run it. A run with failed calls measures something else, so it raises WrkFailed."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        script.write_text(post.script())
        words = ["wrk", "-t1", f"-c{callers}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), post.url]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds + 60)
    if done.returncode:
        raise WrkFailed(f"wrk ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    load = parse(done.stdout)
    if load.refused or load.broken or not load.calls:
        raise WrkFailed(f"{post.url} with {callers} callers: {load.refused} of {load.calls} calls were refused, {load.broken} broke")
    return load


def _quoted(text: str) -> str:
    """A Lua string. Everything but plain letters and digits is escaped by its byte."""
    return '"' + "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\{byte:03}" for byte in text.encode()) + '"'
