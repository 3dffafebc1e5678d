from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from roost.cli.main import COMMANDS, Command, main, overview


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ROOST_HOST", "ROOST_KEY", "ROOST_PROFILE", "ROOST_CONFIG", "ROOST_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROOST_HOME", str(tmp_path))


def _imported_by(*args: str) -> set[str]:
    """The modules that a fresh process has loaded after this command line."""
    code = f"import sys; from roost.cli.main import main; main({list(args)!r}); print('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("args", [("--help",), ("--version",), ()])
def test_help_and_version_load_nothing_that_takes_time(args: tuple[str, ...]) -> None:
    heavy = {"typer", "click", "rich", "httpx", "fastapi", "pydantic", "asyncio", "ssl", "roost.control", "roost.sdk.app"}
    assert not heavy & _imported_by(*args)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_commands_help_loads_neither_rich_nor_the_http_library_nor_the_server(command: Command) -> None:
    loaded = _imported_by(command.name, "--help")
    assert "typer" in loaded
    assert not {"rich", "httpx", "fastapi", "uvicorn", "apsw", "roost.server", "roost.supervisor", "roost.store"} & loaded


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_overview_says_what_the_commands_own_help_says(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    name, text = command.name, command.help
    assert main([name, "--help"]) == 0
    assert " ".join(text.split()) in " ".join(capsys.readouterr().out.split())
    assert f"  {name:<9} {text}" in overview()
    assert hasattr(importlib.import_module(f"roost.cli.{name}"), "app")


def test_an_unknown_command_suggests_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["aps", "list"]) == 2
    assert capsys.readouterr().err == "✗ There is no command 'aps'. Did you mean 'apps'?\n  `roost --help` lists the commands.\n"


def test_the_singular_of_a_noun_is_the_noun(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "--help"]) == 0
    assert "Usage: roost apps" in capsys.readouterr().out


def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "--auth", "nobody"]) == 2
    assert capsys.readouterr().err == (
        "✗ Invalid value for '--auth': 'nobody' is not one of private, public, shared.\n"
        "  Usage: roost deploy [OPTIONS] [REF]\n"
        "  `roost deploy --help` tells more.\n"
    )


def test_a_misspelt_option_suggests_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "--machine-typ", "S", "hello.py"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("✗ No such option: --machine-typ") and "--machine-type" in said.splitlines()[0]


def test_a_noun_without_a_verb_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apps"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Usage: roost apps") and "delete" in said


def _nobodys_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    "args",
    [
        ["run", "app.py"],
        ["deploy", "app.py"],
        ["call", "me/hello"],
        ["apps", "list"],
        ["requests", "list"],
        ["queue", "size", "hello"],
        ["runners", "list"],
        ["keys", "list"],
        ["builds", "list"],
        ["restart"],
    ],
    ids=lambda args: args[0],
)
def test_without_a_server_each_command_says_how_to_start_one(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    host = f"127.0.0.1:{_nobodys_port()}"
    assert main([*args, "--host", host]) == 1
    printed = capsys.readouterr()
    assert printed.err == f"✗ Nothing answers at http://{host}. Start it with `roost up`\n"
    assert printed.out == ""


def test_an_unexpected_error_is_one_line_unless_debugging(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # A closed stdin for `-` is an error that no part of ours expects.
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["call", "me/hello", "-"]) == 1
    assert capsys.readouterr().err.startswith("✗ This is a bug in roost: AttributeError")
    monkeypatch.setenv("ROOST_DEBUG", "1")
    with pytest.raises(AttributeError):
        main(["call", "me/hello", "-"])


def test_ctrl_c_is_aborted_and_130() -> None:
    # A command that waits for ever: the listening socket never accepts, so the HTTP answer never comes.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        code = "import sys, signal; signal.signal(signal.SIGINT, signal.default_int_handler); from roost.cli.main import main; sys.exit(main())"
        env = {**os.environ, "ROOST_KEY": "id:secret"}
        command = [sys.executable, "-c", code, "apps", "list", "--host", host]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
            knock, _ = silent.accept()
            request, _ = silent.accept()
            with knock, request:
                assert request.recv(4) == b"GET "
                process.send_signal(2)
                assert process.communicate(timeout=30)[1] == "Aborted.\n"
    assert process.returncode == 130


def test_up_without_the_servers_packages_says_what_to_install() -> None:
    code = (
        "import sys, importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('apsw', 'cryptography', 'httptools', 'uvloop') else real(name, *a)\n"
        "from roost.cli.main import main; sys.exit(main(['up']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "✗ This installation has only the author's side: apsw, cryptography, httptools, uvloop are missing.\n"
        "  The server comes with its extra: install it with pip install 'roost[server]'\n"
    )
