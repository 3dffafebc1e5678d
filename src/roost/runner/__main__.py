"""`python -m roost.runner`: reads a launch ticket from stdin and becomes that runner."""

from __future__ import annotations

import os
import sys

from roost.runner.host import Host
from roost.runner.logs import Output
from roost.wire.launch import Ticket


def main() -> None:
    ticket = Ticket.from_json(sys.stdin.read())
    # Authors' code that reads stdin gets an end of file, not a closed descriptor.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.environ.update(ticket.env)
    output = Output()
    output.install()
    folder = os.path.join(ticket.bundle, "files", ticket.working_dir)
    if os.path.isdir(folder):
        os.chdir(folder)
        sys.path.append(folder)
    try:
        code = Host(ticket, output, os.path.basename(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))).run()
    except SystemExit as stopped:
        # SIGTERM before the runner served: raised in the middle of an import or of setup().
        code = stopped.code if isinstance(stopped.code, int) else 0
    sys.stdout.flush()
    # Threads of the author that never end must not keep a stopped runner alive.
    os._exit(code)


if __name__ == "__main__":
    main()
