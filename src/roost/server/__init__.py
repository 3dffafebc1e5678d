"""The server process: settings and wiring, the only place that knows every class."""
