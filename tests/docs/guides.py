"""A guide as steps that can be carried out.

What stands behind a code block's language says what a reader does with it:

    ```python file=hello.py    write this file
    ```sh run                  type these commands; they must succeed
    ```sh run background       type this in a terminal of its own and leave it running; it ends with the guide
    ```text shows              each of these lines is part of what the command above prints

A block without such a word is there to be read.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

ADDRESS = "127.0.0.1:8700"
"""The server's address as guides write it; a test's server listens elsewhere."""
PATIENCE_S = 120
BLOCK = re.compile(r"^```(\w+)[ \t]+([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """One block that a reader acts on."""

    action: str
    """"file", "run", "background" or "shows"."""
    text: str
    where: str
    """guide.md:line, for the message of a failure."""
    file: str = ""


def steps(guide: Path) -> list[Step]:
    """The steps of a guide in order. A tag that is not known is an error: a block that silently never runs is worse."""
    text = guide.read_text()
    found: list[Step] = []
    for match in BLOCK.finditer(text):
        where = f"{guide.name}:{text.count(chr(10), 0, match.start()) + 1}"
        match match[1], match[2].split():
            case _, [name] if name.startswith("file="):
                found.append(Step("file", match[3], where, name.removeprefix("file=")))
            case "sh", ["run"]:
                found.append(Step("run", match[3], where))
            case "sh", ["run", "background"]:
                found.append(Step("background", match[3], where))
            case "text", ["shows"]:
                found.append(Step("shows", match[3], where))
            case language, tags:
                raise ValueError(f"{where}: nobody knows what to do with ```{language} {' '.join(tags)}")
    return found


@dataclass
class Reader:
    """Somebody who follows a guide to the letter, in one folder, with one server."""

    folder: Path
    address: str
    env: dict[str, str]
    output: Path = field(init=False)
    """What the last command has printed so far."""
    terminals: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    def follow(self, guide: Path) -> None:
        for number, step in enumerate(steps(guide)):
            text = step.text.replace(ADDRESS, self.address)
            match step.action:
                case "file":
                    (self.folder / step.file).write_text(text)
                case "run":
                    self.type(text, number)
                    code = self.terminals.pop().wait(PATIENCE_S)
                    assert code == 0, f"{step.where}: exit code {code}\n{self.output.read_text()}"
                case "background":
                    self.type(text, number)
                case _:
                    self.see(text.splitlines(), step.where)

    def type(self, commands: str, number: int) -> None:
        self.output = self.folder / f".output-{number}"
        with self.output.open("wb") as output:
            self.terminals.append(
                subprocess.Popen(
                    ["bash", "-euo", "pipefail", "-c", commands],
                    cwd=self.folder,
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def see(self, lines: list[str], where: str) -> None:
        """Wait until the last command has printed every line, and remember the address of an app if it printed one."""
        deadline = time.monotonic() + (PATIENCE_S if self.terminals else 0)
        while missing := [line for line in lines if line.strip() not in self.output.read_text()]:
            ended = bool(self.terminals) and self.terminals[-1].poll() is not None
            assert not ended and time.monotonic() < deadline, f"{where}: never saw {missing}\n{self.output.read_text()}"
            time.sleep(0.05)
        if url := re.search(rf"http://{re.escape(self.address)}/[\w.~/-]+", self.output.read_text()):
            self.env["URL"] = url[0]

    def leave(self) -> None:
        """Ctrl-C in every terminal, the newest first; each must end."""
        for terminal in reversed(self.terminals):
            if terminal.poll() is None:
                os.killpg(terminal.pid, signal.SIGINT)
                try:
                    terminal.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(terminal.pid, signal.SIGKILL)
                    terminal.wait()
                    raise
