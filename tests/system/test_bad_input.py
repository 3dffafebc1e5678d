"""What people get wrong: each is a clear sentence and exit code 1, and nothing is left half done."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from roost.client.config import Target
from roost.control import bundle, load
from roost.control.api import Api
from roost.control.deploy import deploy, upload
from roost.control.errors import ControlError
from tests.system.conftest import MakeRoost
from tests.system.roosts import ROOST, Roost, until
from tests.system.talk import Talk

GOOD = """import roost
class {name}(roost.App):
{body}
    @roost.endpoint("/")
    def go(self) -> dict:
        return {{"answer": "{name}"}}
"""


def app(body: str = "    pass", name: str = "Wrong") -> str:
    return GOOD.format(name=name, body=body)


@dataclass(frozen=True)
class Case:
    what: str
    source: str
    says: tuple[str, ...]
    """Texts of the error, the first on the line with the cross."""
    is_sent: bool = False
    """The server hears of it; otherwise it ends on the author's machine."""
    words: tuple[str, ...] = ()


CASES = (
    Case("no app", "x = 1\n", ("wrong.py has no App", "class MyApp(roost.App)")),
    Case("two apps", app(name="A") + app(name="B"), ("several apps: A, B", "wrong.py::A")),
    Case("__init__", app("    def __init__(self): pass"), ("wrong.py, line 2: Wrong: an App has no __init__", "setup()")),
    Case(
        "unpicklable global",
        "import threading\nkept = open(__file__)\n" + app("    def setup(self): kept.read()"),
        ("The global `kept` that `Wrong.setup` uses is an open file", "Create it in setup()"),
    ),
    Case("another Python", app("    python_version = '3.7'"), ("differs from the app's python_version=3.7", "remove python_version")),
    Case("misspelt option", app("    keep_alife = 3"), ("Unrecognised option 'keep_alife'. Did you mean 'keep_alive'?",)),
    Case("no endpoint", "import roost\nclass Wrong(roost.App):\n    pass\n", ("Wrong has no endpoint",)),
    Case("syntax error", "import roost\nclass Wrong(roost.App)\n", ("SyntaxError: expected ':' (wrong.py, line 2)",)),
    Case("import error", "import only_there\n" + app(), ("No module named 'only_there'", "import it inside the method")),
    Case("raises at the top", "raise OSError('no such disk')\n", ("wrong.py cannot be imported: OSError: no such disk",)),
    Case(
        "conflict with the author's pydantic",
        app("    requirements = ['pydantic==2.0']"),
        ("requires 'pydantic==2.0', but the class was made with pydantic ", "or leave it out"),
        is_sent=True,
    ),
    Case(
        "conflict with the author's fastapi",
        app("    requirements = ['fastapi<0.90']"),
        ("requires 'fastapi<0.90', but the class was made with fastapi ", "or leave it out"),
        is_sent=True,
    ),
    Case(
        "no such package",
        app("    requirements = ['roost-test-no-such-package']"),
        ("the requirements cannot be installed", "roost-test-no-such-package was not found", "Check the spelling"),
        is_sent=True,
    ),
    Case("unknown machine", app("    machine_type = 'GPU-H10'"), ("no machine type 'GPU-H10'", "Did you mean 'GPU-H100'?"), is_sent=True),
    Case(
        "a machine that is not here",
        app("    machine_type = 'GPU-H100'"),
        ("could ever be placed here: GPU-H100 needs", "--machine-type"),
        is_sent=True,
    ),
    Case(
        "setup raises",
        app("    def setup(self): raise ValueError('no weights here')"),
        ("setup() raised: ValueError: no weights here", "in setup"),
        is_sent=True,
    ),
    Case(
        "setup hangs",
        "import time\n" + app("    startup_timeout = 2\n    def setup(self): time.sleep(600)"),
        ("setup() did not end within startup_timeout 2 s", "Raise startup_timeout"),
        is_sent=True,
    ),
    Case(
        "setup exits",
        "import os\n" + app("    def setup(self): os._exit(3)"),
        ("the runner ended before setup() was done: the process exited with code 3",),
        is_sent=True,
    ),
    Case(
        "a package that only the author has",
        app("    def setup(self): import only_here"),
        ("setup() raised: ModuleNotFoundError: No module named 'only_here'",),
        is_sent=True,
    ),
)


@pytest.fixture(scope="module")
def good(roost: Roost, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An app that is deployed as `wrong` and works; answers its revision. What fails later must not touch it."""
    file = tmp_path_factory.mktemp("good") / "good.py"
    file.write_text(app("    keep_alive = 0.5", name="Right"))
    return str(roost.deploy(file, "--app-name", "wrong")["revision"])


def test_the_app_of_these_tests_works(roost: Roost, good: str) -> None:
    assert roost.call("wrong").json() == {"answer": "Right"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_what_cannot_be_deployed_is_said_and_leaves_all_as_it_was(roost: Roost, good: str, tmp_path: Path, case: Case) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(case.source)
    done = roost.cli("deploy", str(file), "--app-name", "wrong", *case.words, code=1)
    (crossed,) = [line for line in done.stderr.splitlines() if line.startswith("✗")]
    assert case.says[0] in crossed
    assert all(text in done.stderr for text in case.says)
    assert ("Accepted" in done.stderr or "Uploaded" in done.stderr) == case.is_sent
    assert "bug in roost" not in done.stderr and not done.stdout
    nothing_left(roost, good)


def nothing_left(roost: Roost, good: str, name: str = "wrong") -> None:
    """The alias has its old revision, no other revision of it has a runner, and no environment is half made."""
    alias = roost.api("GET", f"/v1/apps/{roost.owner}/{name}")
    assert alias["revision_id"] == good and alias["revision"]["state"] == "DEPLOYED"
    until("no runner is left over", lambda: all(r["revision_id"] == good for r in roost.runners(name)), 15)
    assert not list((roost.home / "state" / "envs").glob(".building-*"))


def test_a_machine_type_that_is_not_here_has_a_way_out(roost: Roost, tmp_path: Path) -> None:
    file = tmp_path / "wayout.py"
    file.write_text(app("    machine_type = 'GPU-H100'", name="WayOut"))
    roost.deploy(file, "--machine-type", "XS")
    assert roost.call("way-out").status_code == 200


def test_an_app_that_fails_at_its_first_deploy_has_no_address(roost: Roost, tmp_path: Path) -> None:
    file = tmp_path / "first.py"
    file.write_text(app("    def setup(self): raise ValueError('no')", name="First"))
    for command in ("deploy", "run"):
        assert "✗ setup() raised: ValueError: no" in roost.cli(command, str(file), code=1).stderr
    assert roost.call("first").status_code == 404
    assert "first" not in str(roost.api("GET", "/v1/apps"))
    until("no runner is left over", lambda: not [r for r in roost.runners() if "/first" in r["application"]], 15)


def test_a_python_that_the_server_does_not_have_is_named(roost: Roost, tmp_path: Path) -> None:
    file = tmp_path / "oldpy.py"
    file.write_text(app(name="OldPy"))
    made = bundle.build(load.load(file))
    manifest = replace(made.manifest, spec=replace(made.manifest.spec, python_version="3.5"))
    with Api(Target(roost.url, roost.key)) as api:
        upload(api, manifest, made.blobs)
        with pytest.raises(ControlError) as refused:
            list(deploy(api, manifest, auth=None))
    assert "3.5" in refused.value.detail and refused.value.hint


WRONG_WORDS = (
    ("apps show nothing", 1, 'Application "{owner}/nothing" not found'),
    ("apps logs nothing", 1, 'Application "{owner}/nothing" not found'),
    ("call nothing", 1, "404 Not Found"),
    ("runners stop abc", 1, "Runner 'abc' not found"),
    ("keys revoke abc", 1, "Key 'abc' not found"),
    ("builds log abc", 1, "Build 'abc' not found"),
    ("deploy nothing.py", 1, "There is no file"),
    ("deploy nothing", 1, "no file or pyproject.toml app called 'nothing'"),
    ("apps scale wrong --min-concurrency 5 --max-concurrency 2", 1, "min_concurrency 5 is more than max_concurrency 2"),
    ("call wrong {bad", 2, "'{bad' is not JSON"),
    ("deploy --machine-typ S", 2, "--machine-type"),
    ("apps lst", 2, "Did you mean 'list'?"),
    ("dploy", 2, "Did you mean 'deploy'?"),
)


@pytest.mark.parametrize(("words", "code", "says"), WRONG_WORDS, ids=[words for words, _, _ in WRONG_WORDS])
def test_what_is_typed_wrong_is_said_in_one_line(roost: Roost, good: str, words: str, code: int, says: str) -> None:
    done = roost.cli(*words.split(), code=code)
    first = done.stderr.splitlines()[0]
    assert first.startswith("✗ ") and says.replace("{owner}", roost.owner) in first
    assert not done.stdout


@pytest.mark.parametrize("key", ["aaaa:bbbb", "not a key"])
def test_a_wrong_key_is_said_before_anything_is_loaded(roost: Roost, tmp_path: Path, key: str) -> None:
    file = tmp_path / "loads.py"
    file.write_text("raise SystemExit('it was loaded')\n")
    for command in ("deploy", "run"):
        said = roost.cli(command, str(file), code=1, ROOST_KEY=key).stderr
        assert said.startswith("✗ ") and "ROOST_KEY" in said and "it was loaded" not in said


def test_a_port_in_use_is_said_and_ends_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = {**os.environ, "ROOST_HOME": str(tmp_path / "home")}
        done = subprocess.run([*ROOST, "up", "--port", str(port)], env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"127.0.0.1:{port} is in use" in done.stderr and "--port" in done.stderr


# Ctrl-C in the middle of each phase. What the command line says when the phase has begun, and the source that makes it last.
PHASES: tuple[tuple[str, str, str], ...] = (
    ("loading", "print('loading now', flush=True)\nimport time\ntime.sleep(600)\n", "loading now"),
    ("build", app("    requirements = ['slow-to-build']"), "Installing"),
    ("setup", "import time\n" + app("    def setup(self):\n        print('in setup')\n        time.sleep(600)"), "| in setup"),
)


@pytest.mark.parametrize(("phase", "source", "sign"), PHASES, ids=[phase for phase, _, _ in PHASES])
def test_ctrl_c_in_the_middle_leaves_all_as_it_was(roost: Roost, good: str, tmp_path: Path, phase: str, source: str, sign: str) -> None:
    file = tmp_path / "wrong.py"
    if phase == "build":
        source = source.replace("slow-to-build", f"slow-to-build @ {slow_package(tmp_path).as_uri()}")
    file.write_text(source)
    with Talk(roost.begin("deploy", str(file), "--app-name", "wrong")) as talk:
        talk.says(sign)
        assert talk.interrupt() < 5
        assert talk.process.returncode == 130
        assert talk.lines("Aborted.")
    until("no build is left over", lambda: not [c for c in roost.tree().values() if "slow_to_build" in c or "uv pip install" in c], 15)
    until("no half of an environment", lambda: not list((roost.home / "state" / "envs").glob(".building-*")), 15)
    nothing_left(roost, good)


def test_ctrl_c_in_the_middle_of_an_upload_leaves_nothing(roost: Roost, good: str, tmp_path: Path) -> None:
    file, weights = tmp_path / "wrong.py", tmp_path / "weights.bin"
    with weights.open("wb") as sparse:
        sparse.truncate(800_000_000)
    file.write_text(app("    app_files = ['weights.bin']"))
    with Talk(roost.begin("deploy", str(file), "--app-name", "wrong")) as talk:
        blobs = roost.home / "state" / "blobs"
        until("the upload has begun", lambda: [f for f in blobs.rglob("*") if f.is_file() and f.stat().st_size > 1_000_000])
        talk.interrupt()
        assert talk.process.returncode == 130, talk.text
    until("the half of the file is gone", lambda: not [f for f in blobs.rglob("*") if f.is_file() and f.stat().st_size > 1_000_000], 15)
    nothing_left(roost, good)


def slow_package(folder: Path) -> Path:
    """A source package whose build takes for ever."""
    from tests.packages import source

    return source(folder, "slow_to_build", "import time\ndef build_wheel(*a, **k):\n    time.sleep(600)\n")


def test_a_deploy_survives_a_restart_and_a_crash_of_the_server(own_roost: MakeRoost, tmp_path: Path) -> None:
    roost = own_roost()
    file, go_on = tmp_path / "steady.py", tmp_path / "go-on"
    body = f"    def setup(self):\n        print('in setup')\n        while not os.path.exists({str(go_on)!r}): time.sleep(0.05)\n        print('set up')"
    file.write_text("import os, time\n" + app(body, name="Steady"))
    with Talk(roost.begin("deploy", str(file))) as talk:
        talk.says("| in setup")
        roost.cli("restart")
        talk.says("Attached again.")
        os.kill(roost.server_pid(), signal.SIGKILL)
        talk.says("Attached again.", times=2)
        go_on.touch()
        assert talk.ends() == 0, talk.text
        assert talk.lines(f"✓ Deployed {roost.owner}/steady")
        # The same runner all the time, whose output came once: its setup() ran once.
        assert [len(talk.lines(line)) for line in ("| in setup", "| set up")] == [1, 1]
    assert roost.call("steady").status_code == 200


def test_what_the_json_of_a_failed_deploy_leaves_on_stdout_is_nothing(roost: Roost, good: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(app("    machine_type = 'GPU-H100'"))
    done = roost.cli("deploy", str(file), "--json", code=1)
    assert done.stdout == ""
