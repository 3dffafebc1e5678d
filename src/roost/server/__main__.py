"""`python -m roost.server`: started by the supervisor, never by hand."""

from roost.server.main import main

raise SystemExit(main())
