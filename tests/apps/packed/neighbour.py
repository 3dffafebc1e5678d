"""Lies beside apps that import it."""

NAME = "neighbour"


class Thing:
    pass


def help_me():
    return NAME
