"""`python -m roost.cli`: the same as `roost`, where no console script is at hand (systemd units, `roost demo`)."""

from __future__ import annotations

import sys

from roost.cli.main import main

sys.exit(main())
