"""The example apps that ship with roost: which there are, what to send them, and what must be in the answer.

They are data: files in `roost/examples`, which is no package, so that each is loaded and sent like any author's file. Its index.json
lists them:

    [{"name": "ocr", "title": "Text in a picture", "app": "ocr.py::Ocr", "endpoint": "/",
      "input": {"image": {"$file": "sign.png"}}, "expect": ["words", "of the sign"], "show": ["text"]}]

`{"$file": name}` becomes the file's content as a data URI. `show` names the fields of the answer that are worth a look.
"""

from __future__ import annotations

import base64
import json
import mimetypes
import shlex
from collections.abc import Iterator
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
    show: tuple[str, ...] = ()
    """Fields of the answer; none = all of it."""
    body: str = "{}"
    """The input as the format of a printf, with a %s for each of `files`."""
    files: tuple[Path, ...] = ()

    def is_right(self, answer: str) -> bool:
        """Whether the answer has every expected text in it, whatever its case."""
        return all(text.casefold() in answer.casefold() for text in self.expect)

    def shown(self, answer: str) -> str:
        """The part of an answer that is worth a look, one field below the other; the answer itself where it has no such part."""
        try:
            fields = json.loads(answer)
            return "\n".join(str(fields[name]) for name in self.show) or answer
        except (ValueError, LookupError, TypeError):
            return answer

    def curl(self, url: str, key: str = "") -> str:
        """A shell line that makes this call; `key` is shell text for the key, if it needs one.

        Files are named and not spelled out: a picture is longer than a command line may be.
        """
        authorization = f' -H "Authorization: Key {key}"' if key else ""
        line = f"curl {shlex.quote(url)}{authorization} -H 'Content-Type: application/json' -d"
        if not self.files:
            return f"{line} {shlex.quote(json.dumps(self.input))}"
        contents = " ".join(f'"$(base64 -w0 {shlex.quote(str(file))})"' for file in self.files)
        return f"printf {shlex.quote(self.body)} {contents} | {line} @-"


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
            show=tuple(row.get("show", ())),
            body=_as_format(row.get("input", {})),
            files=tuple(folder / name for name in _file_names(row.get("input", {}))),
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


def _file_names(value: Any) -> Iterator[str]:
    match value:
        case {"$file": str(name)}:
            yield name
        case dict() | list():
            for item in value.values() if isinstance(value, dict) else value:
                yield from _file_names(item)
        case _:
            pass


def _as_format(value: Any) -> str:
    """The JSON of `value` for printf: %s where a file is, and what printf would read as its own doubled."""

    def text(item: Any) -> str:
        match item:
            case {"$file": str()}:
                return '"%s"'
            case dict():
                return "{" + ", ".join(f"{text(name)}: {text(inner)}" for name, inner in item.items()) + "}"
            case list():
                return "[" + ", ".join(map(text, item)) + "]"
            case _:
                return json.dumps(item).replace("%", "%%").replace("\\", "\\\\")

    return text(value)


def data_uri(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
