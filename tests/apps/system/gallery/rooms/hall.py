from ..frames import framed  # noqa: TID252 - that it works is what is tested


def hung(title: str) -> str:
    return framed(title)
