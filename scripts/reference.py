"""Writes the pages of docs/reference that are made from code: `make reference`. With --check it only says which are out of date."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from roost.sdk import options
from roost.server import settings
from roost.wire.errors import CODES

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
MADE = "<!-- Made by scripts/reference.py. Change the code, then run `make reference`. -->"


def errors() -> str:
    """Every code of wire/errors.py with its status and meaning."""
    rows = [f"| `{code.name}` | {code.status} | {code.meaning} |" for code in CODES.values()]
    return "\n".join(
        [
            MADE,
            "# Errors",
            "",
            "Errors of the server itself have this body, and the header `X-Fal-Error-Type` with the same code:",
            "",
            "```json",
            '{"detail": "what went wrong and why", "error_type": "runner_disconnected", "hint": "what to do now"}',
            "```",
            "",
            "`hint` is there only when there is something to do. Answers of an app, also its errors, pass through unchanged and never",
            "have one of these codes.",
            "",
            "| `error_type` | status | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


PAGES: dict[str, Callable[[], str]] = {
    "errors.md": errors,
    "app-options.md": options.render_reference,
    "settings.md": settings.render_reference,
}


def stale() -> list[str]:
    """Names of the pages whose text on disk is not what the code says."""
    return [name for name, render in PAGES.items() if not (FOLDER / name).is_file() or (FOLDER / name).read_text() != render()]


def main(arguments: list[str]) -> int:
    names = stale()
    if "--check" in arguments:
        if names:
            print(f"out of date: {', '.join(names)}. Run `make reference`.", file=sys.stderr)
        return 1 if names else 0
    for name in names:
        (FOLDER / name).write_text(PAGES[name]())
        print(f"wrote docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
