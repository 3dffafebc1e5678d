"""The page of `page.js`, which another origin serves, in a real Chromium."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import queue
import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.conftest import PARROT, Served
from tests.compat.js.modules import modules

HERE = Path(__file__).parent


def chromium() -> str:
    """The program, or the end of the test."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if program := shutil.which(name):
            return program
    message = "needs Chromium: apt-get install chromium"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@contextlib.contextmanager
def elsewhere(folder: Path) -> Iterator[tuple[str, queue.Queue[dict[str, str]]]]:
    """Somebody else's web server with the files of this folder: its address, and what its page tells."""
    told: queue.Queue[dict[str, str]] = queue.Queue()

    class Pages(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", told
        server.shutdown()


def shown(served: Served, folder: Path) -> dict[str, str]:
    """What went wrong with each flow of the page; "" if nothing did. `folder` is empty, and filled with a web site."""
    program = chromium()
    served.roost.cli("deploy", f"{PARROT}::Parrot", "--app-name", "open-parrot", "--auth", "public", "--json", RECORD=str(served.record))
    for file in ("page.html", "page.js"):
        shutil.copy(HERE / file, folder)
    with (folder / "client.js").open("w") as file:
        env = {**os.environ, "MODULES": str(modules())}
        subprocess.run(["node", str(HERE / "bundle.mjs"), "fal-newest"], stdout=file, env=env, check=True, timeout=60)
    asked = urllib.parse.urlencode({"server": served.roost.url, "key": served.roost.key, "owner": served.roost.owner})
    with elsewhere(folder) as (address, answers):
        words = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder / 'profile'}"]
        browser = subprocess.Popen([*words, f"{address}/page.html?{asked}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return answers.get(timeout=90)
        finally:
            browser.terminate()
            browser.wait(30)
