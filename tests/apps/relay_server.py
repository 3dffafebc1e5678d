"""Stands where a server stands, and connects the supervisor's channel with the Unix socket of a test, byte by byte."""

from __future__ import annotations

import os
import selectors
import socket
import sys

test = socket.socket(socket.AF_UNIX)
test.connect(sys.argv[1])
supervisor = socket.socket(fileno=int(os.environ["ROOST_SUPERVISOR_FD"]))
other_of = {test: supervisor, supervisor: test}
selector = selectors.DefaultSelector()
for end in other_of:
    selector.register(end, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        end = key.fileobj
        assert isinstance(end, socket.socket)
        data = end.recv(65536)
        if not data:
            sys.exit(0)
        other_of[end].sendall(data)
