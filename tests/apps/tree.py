"""`roost up` with another server program: python tests/apps/tree.py '{"home": ..., "listen": [...], "server": [...], ...}'."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from roost.supervisor.main import run
from roost.supervisor.options import Options
from roost.supervisor.succession import Limits

told = json.loads(sys.argv[1])
sys.exit(
    run(
        Options(
            home=Path(told["home"]),
            listen=tuple(told.get("listen", ["127.0.0.1:0"])),
            connect=tuple(told.get("connect", [])),
            server=(sys.executable, *told["server"]),
            front=(sys.executable, *told.get("front", ["-m", "roost.front"])),
            limits=Limits(**told.get("limits", {})),
            grace_ms=told.get("grace_ms", 5_000),
            runner_grace_ms=told.get("runner_grace_ms", 1_000),
        )
    )
)
