"""The flows of `flows.mjs`, gone through once for each version of the client and way to the server, all of them side by side; and those of a page."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.compat.conftest import Served
from tests.compat.environments import LATEST
from tests.compat.js.hosts import names_leading_to
from tests.compat.js.modules import modules
from tests.compat.js.pages import shown
from tests.system.proxies import nginx

HERE = Path(__file__).parent
FLOWS = HERE / "flows.mjs"
OLDER = () if LATEST else (("older", "door"), ("older", "tls"))
REACHES = (("newest", "door"), ("newest", "tls"), ("newest", "nginx"), ("newest", "connect"), ("newest", "hosts"), *OLDER)
"""Version of the client, and way."""

Outcomes = Mapping[str, str]
"""By title, what went wrong with each flow; "" if nothing did."""
Ran = Mapping[tuple[str, str], "Future[Outcomes]"]


@pytest.fixture(scope="module")
def ran(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("js")
    modules()  # here, and not in each thread
    with ThreadPoolExecutor(len(REACHES)) as threads:
        yield {(version, way): threads.submit(_run, version, way, served, folder / f"{version}-{way}") for version, way in REACHES}


@pytest.fixture(scope="module")
def page(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What came of the page of `page.js`."""
    return shown(served, tmp_path_factory.mktemp("page"))


def _run(version: str, way: str, served: Served, folder: Path) -> Outcomes:
    folder.mkdir()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "MODULES": str(modules()),
        "OWNER": served.roost.owner,
        "RECORD": str(served.record),
        "ROOST_KEY": served.roost.key,
        "ROOST_URL": served.roost.url,
        "ROOST_TLS_URL": f"https://127.0.0.1:{served.roost.port}",
    }
    if way != "door":
        env["NODE_EXTRA_CA_CERTS"] = str(served.roost.home / "state" / "tls" / "ca.pem")
    with _leading(way, served, folder, env) as words:
        done = subprocess.run(
            [*words, str(FLOWS), way, version], env=env, cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return {told["title"]: told["error"] for told in map(json.loads, done.stdout.splitlines())}


@contextlib.contextmanager
def _leading(way: str, served: Served, folder: Path, env: dict[str, str]) -> Iterator[list[str]]:
    """What starts Node so that this way is there; adds to its environment."""
    match way:
        case "nginx":
            with nginx(folder / "nginx", served.roost) as proxy:
                env["ROOST_TLS_URL"] = f"https://localhost:{proxy.port}"
                yield ["node"]
        case "connect":
            env["https_proxy"] = f"http://{served.door}"
            yield ["node", "--import", str(HERE / "proxied.mjs")]
        case "hosts":
            with names_leading_to(served.roost.port, folder) as words:
                yield [*words, "node"]
        case _:
            yield ["node"]
