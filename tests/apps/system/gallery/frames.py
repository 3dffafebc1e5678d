def framed(title: str) -> str:
    return f"[{title}]"
