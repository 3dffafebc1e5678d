"""The example apps that ship with roost: which there are, what to send them, and what must be in the answer.

They are data: files in `roost/examples`, which is no package, so that each is loaded and sent like any author's file. Its index.json
lists them:

    [{"name": "ocr", "title": "Text in a picture", "app": "ocr.py::Ocr", "endpoint": "/",
      "input": {"image": {"$file": "sign.png"}}, "expect": ["words", "of the sign"]}]

`{"$file": name}` becomes the file's content as a data URI.
"""

from __future__ import annotations

import base64
import json
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roost.control.errors import ControlError

FOLDER = Path(__file__).parent.parent / "examples"


@dataclass(frozen=True, slots=True)
class Example:
    """One call of one example app. `reference` is what `roost deploy` would be given."""

    name: str
    title: str
    reference: str
    endpoint: str
    input: Any
    expect: tuple[str, ...]

    def is_right(self, answer: str) -> bool:
        """Whether the answer has every expected text in it, whatever its case."""
        return all(text.casefold() in answer.casefold() for text in self.expect)


def packaged_examples(folder: Path = FOLDER) -> tuple[Example, ...]:
    """The examples of `folder`, in the order of its index.json."""
    index = folder / "index.json"
    try:
        rows = json.loads(index.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ControlError(f"This installation has no examples: {index} is missing.", hint="Install roost again.") from exc
    return tuple(
        Example(
            name=row["name"],
            title=row["title"],
            reference=str(folder / row["app"]),
            endpoint=row.get("endpoint", "/"),
            input=_with_files(row.get("input", {}), folder),
            expect=tuple(row["expect"]),
        )
        for row in rows
    )


def _with_files(value: Any, folder: Path) -> Any:
    match value:
        case {"$file": str(name)}:
            return data_uri(folder / name)
        case dict():
            return {key: _with_files(item, folder) for key, item in value.items()}
        case list():
            return [_with_files(item, folder) for item in value]
        case _:
            return value


def data_uri(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
