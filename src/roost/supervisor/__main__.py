from __future__ import annotations

import sys

from roost.supervisor.main import main

sys.exit(main())
