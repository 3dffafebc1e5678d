"""Runner connections, server end: who may dial in, one connection's calls, and the directory of who is there."""
