"""TLS and the first bytes of a connection, in front of the gateway."""
