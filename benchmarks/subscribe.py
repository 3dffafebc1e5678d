"""The official Python client waits for a job of two seconds: what it waits beyond that.

It polls every 100 ms, so that half of those are its own on average; the goal leaves 20 ms for the submit, the polls, the queue and the result.
"""

from __future__ import annotations

import os
import subprocess

from benchmarks.harness.bench import APPS, Bench
from benchmarks.harness.figures import at_most, percentile
from benchmarks.harness.programs import Broken
from benchmarks.peers import Peer, environment

CLIENT = Peer("fal-client==1.0.3", ("python", "waits_fal_client.py"), 1)
POLLS_EVERY_MS = 100
AT_ONCE = 4


def run(bench: Bench) -> None:
    tries = 8 if bench.options.quick else 40
    python = environment(bench, "fal-client", CLIENT) / "bin" / "python"
    with bench.roost("roost") as roost:
        app = roost.deploy(APPS / "waits.py")
        address = f"localhost:{roost.port}"
        env = {
            "PATH": os.environ["PATH"],
            "FAL_KEY": roost.auth["authorization"].removeprefix("Key "),
            "FAL_RUN_HOST": address,
            "FAL_QUEUE_RUN_HOST": f"{address}/_queue",
            "SSL_CERT_FILE": str(roost.home / "state" / "tls" / "bundle.pem"),
        }
        bench.say(f"{tries} jobs, {AT_ONCE} at once")
        words = [str(python), str(APPS / CLIENT.command[1]), app.strip("/"), str(tries), str(AT_ONCE)]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise Broken(f"fal-client: {done.stderr[-2000:]}")
    beyond = [float(line) for line in done.stdout.split()]
    bench.record("beyond.p50", "ms", [percentile(beyond, 50)], at_most(POLLS_EVERY_MS + 20))
    bench.record("beyond.p90", "ms", [percentile(beyond, 90)])
