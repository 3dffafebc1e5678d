"""A helper beside the app: it travels with the class, and imports a package that only the runner has."""


def version_of_six() -> str:
    import six

    return six.__version__


class Counter:
    """State of a module that travels by value."""

    seen = 0


def count() -> int:
    Counter.seen += 1
    return Counter.seen
