"""Names of apps: how a class's name becomes one, and which ones can stand in a URL (spec: app-class.md §1.3)."""

from __future__ import annotations

import re

MAX_LENGTH = 63
ENVIRONMENT_MARK = "--"
"""Stands between an app's name and its deployment environment (`my-app--staging`), so no name may contain it."""

_WORD = re.compile(r"[A-Z][a-z]*")
_VALID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def derive(class_name: str) -> str:
    """The app's name when the author gave none: `TextToImage` -> `text-to-image`, `my_app` -> `my-app`.

    Words begin at capital letters, one each (`ONNXModel` -> `o-n-n-x-model`); what is not part of one is dropped (`Model2V` -> `model-v`).
    """
    words = _WORD.findall(class_name)
    if words:
        return "-".join(words).lower()
    return class_name.lower().replace("_", "-")


def check(name: str) -> str:
    """The name itself, if it can be one segment of a URL. Raises ValueError that says what is wrong and offers a name that works."""
    if not name:
        raise ValueError("the app's name is empty. Give it one: app_name = 'my-app'")
    problem = _problem(name)
    if problem is None:
        return name
    better = re.sub(r"-{2,}", "-", re.sub(r"[^A-Za-z0-9._-]+", "-", name)).strip("-._")[:MAX_LENGTH].strip("-._").lower()
    raise ValueError(f"app name {name!r} {problem}, and it is part of the app's URL. Try app_name = {better or 'my-app'!r}")


def _problem(name: str) -> str | None:
    if len(name) > MAX_LENGTH:
        return f"is {len(name)} characters long (at most {MAX_LENGTH})"
    if not _VALID.fullmatch(name):
        return "may only hold letters, digits, '-', '_' and '.', and must begin and end with a letter or digit"
    if ENVIRONMENT_MARK in name:
        return f"contains {ENVIRONMENT_MARK!r}, which separates a name from its environment"
    return None
