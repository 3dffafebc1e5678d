"""Settings, wiring, main: the only place that knows every class of the server."""
