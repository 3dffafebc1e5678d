"""`python roost-start.py`: reads a ticket from stdin and becomes that runner, or that template."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from roost.runner.host import Host
from roost.runner.load import Loaded, enter
from roost.runner.logs import Output
from roost.wire.launch import TemplateTicket, Ticket, read_ticket

RUNTIME: Final = Path(__file__).parent.parent.parent.name
"""Name of the runtime folder that this code lies in."""


def main() -> None:
    ticket = read_ticket(sys.stdin.read())
    # Authors' code that reads stdin gets an end of file, not a closed descriptor.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    output = Output()
    output.install()
    if isinstance(ticket, TemplateTicket):
        from roost.runner.template import Template

        born = Template(ticket, output, RUNTIME).serve()
        if born is None:
            os._exit(0)
        # From here on we are a fork, and a runner.
        ticket, loaded = born
    else:
        loaded = None
        enter(ticket.bundle, ticket.working_dir)
    become(ticket, output, loaded)


def become(ticket: Ticket, output: Output, loaded: Loaded | None) -> None:
    """The rest of this process's life as the runner of this ticket."""
    if loaded is None:
        os.environ.update(ticket.env)
    else:
        # What the app itself set in its imports or preload() is its own affair; all else is this runner's, its GPUs for one.
        os.environ.update({name: value for name, value in ticket.env.items() if name not in loaded.chosen})
    try:
        code = Host(ticket, output, RUNTIME, loaded).run()
    except SystemExit as stopped:
        # SIGTERM before the runner served: raised in the middle of an import or of setup().
        code = stopped.code if isinstance(stopped.code, int) else 0
    sys.stdout.flush()
    # Threads of the author that never end must not keep a stopped runner alive.
    os._exit(code)


if __name__ == "__main__":
    main()
