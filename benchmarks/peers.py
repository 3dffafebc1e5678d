"""The same handler under other servers for models, each in an environment of its own, installed when its flag asks for it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import echo
from benchmarks.harness import http, wrk
from benchmarks.harness.bench import APPS, Bench
from benchmarks.harness.figures import at_least, interleaved, ratios
from benchmarks.harness.programs import Broken, free_port, listening, until
from benchmarks.harness.tables import number, spread
from benchmarks.harness.wrk import Load, Post

CALLERS = (16, 64)


@dataclass(frozen=True, slots=True)
class Peer:
    """`command` after the environment's bin folder; {port} is filled in. `faster`: how many times faster Roost wants to be."""

    package: str
    command: tuple[str, ...]
    faster: float


PEERS: Mapping[str, Peer] = {
    "litserve": Peer("litserve", ("python", "echo_litserve.py", "{port}"), 5),
    "bentoml": Peer("bentoml", ("bentoml", "serve", "echo_bentoml:Echo", "--host", "127.0.0.1", "--port", "{port}"), 5),
    "ray": Peer("ray[serve]", ("python", "echo_ray.py", "{port}"), 30),
}


def run(bench: Bench) -> None:
    if not bench.options.peers:
        bench.say("nothing asked for; flags: " + ", ".join(f"--{name}" for name in PEERS))
        return
    rounds, seconds = (1, 2) if bench.options.quick else (5, 2)
    with contextlib.ExitStack() as stack:
        posts = {"roost": echo.echo_on(stack.enter_context(bench.roost("roost"))).post}
        posts["bare"] = stack.enter_context(echo.bare_uvicorn(bench.folder)).post
        for name in bench.options.peers:
            posts[name] = stack.enter_context(serving(bench, name))
        must_mean_the_same(posts)
        for post in posts.values():
            wrk.press(post, 16, 1)
        for callers in CALLERS:
            bench.say(f"{callers} callers: {rounds} rounds of {', '.join(posts)}")
            turns: dict[str, Callable[[], Load]] = {name: partial(wrk.press, post, callers, seconds) for name, post in posts.items()}
            record(bench, callers, interleaved(turns, rounds))


@contextlib.contextmanager
def serving(bench: Bench, name: str) -> Iterator[Post]:
    peer, port = PEERS[name], free_port()
    bin_folder = environment(bench, name, peer) / "bin"
    home = bench.folder / name
    home.mkdir()
    # What they keep (BentoML its store, Ray its session) goes into our folder; nobody reports home.
    env = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "HOME": str(home), "RAY_TMPDIR": str(home)}
    env |= {"BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    words = [str(bin_folder / peer.command[0]), *(word.replace("{port}", str(port)) for word in peer.command[1:])]
    with listening(words, port, bench.folder / f"{name}.log", env, cwd=APPS, patience_s=180):
        post = Post(f"http://127.0.0.1:{port}/echo", echo.BODY)
        until(f"{name} answers", lambda: answers(post), 60)
        yield post


def answers(post: Post) -> bool:
    with contextlib.suppress(OSError):
        return answered(post).status == 200
    return False


def answered(post: Post) -> http.Answer:
    address, _, path = post.url.removeprefix("http://").partition("/")
    return http.call(int(address.rpartition(":")[2]), f"/{path}", post.body.encode(), post.headers)


def must_mean_the_same(posts: Mapping[str, Post]) -> None:
    """Spaces in JSON are theirs to choose; what it says is not. Raises Broken."""
    values = {name: json.loads(answered(post).body) for name, post in posts.items()}
    if any(value != values["bare"] for value in values.values()):
        raise Broken(f"the answers differ: {values}")


def environment(bench: Bench, name: str, peer: Peer) -> Path:
    """The peer's environment. Kept for the next run."""
    folder = bench.kept / name
    if not folder.exists():
        bench.say(f"installing {peer.package}, once")
        began = time.monotonic()
        uv = str(Path(sys.executable).parent / "uv")
        links = ["--find-links", bench.options.find_links] if bench.options.find_links else []
        try:
            for words in (
                [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
                [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *links, peer.package, "uvloop", "httptools"],
            ):
                done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=900)
                if done.returncode:
                    raise Broken(f"uv could not install {peer.package}: {done.stderr}")
        except BaseException:
            # Half an environment would be taken for a whole one next time.
            shutil.rmtree(folder, ignore_errors=True)
            raise
        bench.say(f"installed in {time.monotonic() - began:.0f} s")
    return folder


def record(bench: Bench, callers: int, measured: Mapping[str, list[Load]]) -> None:
    speeds = {name: [load.calls_s for load in loads] for name, loads in measured.items()}
    rows: list[list[str]] = []
    for name, loads in measured.items():
        figure = bench.record(f"{callers}.{name}.calls_s", "calls/s", speeds[name])
        times = ""
        if name in PEERS:
            over = bench.record(
                f"{callers}.roost_over_{name}", f"x {name}", ratios(speeds["roost"], speeds[name]), at_least(PEERS[name].faster)
            )
            times = number(over.median)
        p50 = number(median(load.p50_ms for load in loads))
        p99 = number(median(load.p99_ms for load in loads))
        rows.append([f"{callers} callers, {name}", number(figure.median), spread(figure.samples), p50, p99, times])
    bench.show(["", "calls/s", "min-max", "p50 ms", "p99 ms", "Roost is times faster"], rows)
