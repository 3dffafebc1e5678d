"""The process tree: holds the sockets, starts everything, outlives the server. Imports kit and wire only."""
