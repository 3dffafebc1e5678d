"""`roost doctor`: what is installed here, which server is used, and what that server says about itself."""

from __future__ import annotations

import importlib.util
import platform
import sys
from dataclasses import asdict, dataclass

import typer

from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, connect, noun

app = noun()


@dataclass(frozen=True)
class Check:
    """One line of the answer. What is not `ok` has a `hint`."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


@app.command(name="doctor")
def doctor(as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = "") -> None:
    """Check this installation and the server.

    The exit code is 1 if something is not in order.
    """
    from roost.cli.output import tell, tell_json

    checks = [*_here(), *_there(host, key, profile)]
    if as_json:
        tell_json({"checks": [asdict(check) for check in checks]})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            tell(f"{'✓' if check.ok else '✗'} {check.name:<{width}}  {check.detail}")
            if check.hint and not check.ok:
                tell(f"  {'':<{width}}  {check.hint}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _here() -> list[Check]:
    import roost
    from roost.cli.up import SERVER_PACKAGES

    missing = [name for name in SERVER_PACKAGES if importlib.util.find_spec(name) is None]
    extra = "installed" if not missing else "not installed; only `roost up` needs it: pip install 'roost[server]'"
    return [
        Check("roost", True, roost.__version__),
        Check("python", True, f"{platform.python_version()} ({sys.executable})"),
        Check("platform", True, platform.platform()),
        Check("server extra", True, extra),
    ]


def _there(host: str, key: str, profile: str) -> list[Check]:
    from roost.client import config
    from roost.client.errors import ConfigError
    from roost.control.errors import ControlError

    try:
        target = config.resolve(host=host, key=key, profile=profile)
    except ConfigError as exc:
        return [Check("config", False, exc.detail, exc.hint)]
    checks = [Check("config", True, str(config.config_path())), Check("host", True, target.host)]
    checks.append(
        Check("key", bool(target.key), f"{target.key_id} (from {target.key_from})" if target.key else "none", "Set ROOST_KEY or a profile.")
    )
    try:
        with connect(host, key, profile) as api:
            health = api.health()
            checks.append(Check("server", True, f"version {health.get('version')}, up {round(health.get('uptime_s') or 0)} s"))
            if target.key:
                me = api.whoami()
                checks.append(Check("account", True, f"{me.get('owner')} ({me.get('scope')})"))
                checks += [Check(str(c["name"]), bool(c["ok"]), str(c.get("detail") or ""), str(c.get("hint") or "")) for c in api.doctor()]
    except ControlError as exc:
        checks.append(Check("server", False, exc.detail, exc.hint))
    return checks
