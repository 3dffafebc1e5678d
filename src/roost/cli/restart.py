"""`roost restart`: a new server process takes over while the old one finishes its calls."""

from __future__ import annotations

from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, connect, noun

app = noun()


@app.command(name="restart")
def restart(as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = "") -> None:
    """Restart the server without losing a call.

    Callers that arrive meanwhile wait a moment; runners live on. Use it after an upgrade or a change of server.toml.
    """
    from roost.cli.output import say, tell, tell_json
    from roost.control.restart import restart as restart_server

    with connect(host, key, profile) as api:
        say("Restarting ...")
        done = restart_server(api)
    if as_json:
        tell_json({"version": done.version, "seconds": round(done.took_s, 2)})
    else:
        tell(f"✓ Restarted in {done.took_s:.1f} s, now version {done.version}")
