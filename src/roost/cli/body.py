"""What the words after the app in `roost call` mean: the bytes to send and their content type."""

from __future__ import annotations

import json
import mimetypes
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FIELD = re.compile(r"^([^=:\[\]]+)((?:\[[^\]]*\])*)(:=|=)(.*)$", re.DOTALL)


class BadBody(ValueError):
    """The words make no body; the message says which one and why."""


@dataclass(frozen=True, slots=True)
class Body:
    content: bytes
    content_type: str


def body_of(words: Sequence[str], stdin: Callable[[], bytes]) -> Body | None:
    """The body that `words` describe; None for no words.

    One word may be JSON, `@file` or `-` (stdin). Otherwise each is `key=text` or `key:=json`, with `key[inner]` for objects
    within objects and `key[]` to append to a list.
    """
    if not words:
        return None
    if len(words) == 1:
        only = words[0]
        if only == "-":
            return _raw(stdin(), "")
        if only.startswith("@"):
            path = Path(only[1:]).expanduser()
            try:
                return _raw(path.read_bytes(), path.name)
            except OSError as exc:
                raise BadBody(f"Cannot read {path}: {exc.strerror or exc}.") from exc
        if _FIELD.match(only) is None or only[:1] in '{["':
            return _json(_parsed(only, only))
    fields: dict[str, Any] = {}
    for word in words:
        _put(fields, word)
    return _json(fields)


def _put(fields: dict[str, Any], word: str) -> None:
    match = _FIELD.match(word)
    if match is None:
        raise BadBody(f"{word!r} is not key=text or key:=json.")
    name, brackets, sign, text = match.groups()
    value = _parsed(text, word) if sign == ":=" else text
    keys = [name, *re.findall(r"\[([^\]]*)\]", brackets)]
    here: Any = fields
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        inner: Any = value if following is None else [] if following == "" else {}
        if isinstance(here, list):
            if key != "":
                raise BadBody(f"{word!r}: {key!r} is inside a list, which takes only [].")
            # Two words that append objects make two objects.
            here.append(inner)
            here = here[-1]
        elif not isinstance(here, dict) or key == "":
            raise BadBody(f"{word!r} does not fit the words before it.")
        elif following is None:
            here[key] = inner
        else:
            here = here.setdefault(key, inner)


def _parsed(text: str, word: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as exc:
        hint = "" if ":=" in word else " Write the body as JSON, as key=text and key:=json, or as @file."
        raise BadBody(f"{word!r} is not JSON: {exc}.{hint}") from exc


def _json(value: Any) -> Body:
    return Body(json.dumps(value, ensure_ascii=False).encode(), "application/json")


def _raw(content: bytes, file_name: str) -> Body:
    """Bytes as they are. Their type is told by the file's name, else by whether they are JSON."""
    guessed = mimetypes.guess_type(file_name)[0]
    if guessed is None:
        try:
            json.loads(content)
            guessed = "application/json"
        except ValueError:
            guessed = "application/octet-stream"
    return Body(content, guessed)
