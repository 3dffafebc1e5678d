from tools.names import BETWEEN


def mix(one: str, other: str) -> str:
    return f"{one}{BETWEEN}{other}"
