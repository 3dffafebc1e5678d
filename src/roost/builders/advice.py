"""What to tell the author of a build that failed: the resolver's own words and what to do now. Pure.

The words of `uv` are matched loosely and only to choose the advice: when nothing matches, its words stand alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from roost.builders.base import SUPPORTED_FROM, BuildError, BuildInterrupted, BuildSettings
from roost.core.model import Recipe
from roost.kit.spawn import Exited

_MOST_LINES: Final = 40
_ERROR_BEGINS: Final = re.compile(r"\s*(error:|×)")
_UNREACHABLE: Final = (
    "error sending request",
    "dns error",
    "operation timed out",
    "client error (Connect)",
    "Failed to connect to",
    "Could not resolve host",
    "Network is unreachable",
)


@dataclass(frozen=True, slots=True)
class Step:
    """What was being done: a sentence's beginning, and which requirements it was about (none while Python is looked for)."""

    doing: str
    requirements: tuple[str, ...] = ()


def check_version(python_version: str) -> None:
    """Raises BuildError for a Python that no runner can have."""
    parts = python_version.split(".")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise BuildError(f"{python_version!r} is not a Python version", 'Write major.minor, for example python_version = "3.11".')
    if (int(parts[0]), int(parts[1])) < SUPPORTED_FROM:
        least = ".".join(map(str, SUPPORTED_FROM))
        raise BuildError(
            f"Python {python_version} is too old: runners need {least} or newer",
            f"Deploy from Python {least} or newer, and leave python_version out or set it to the same version.",
        )


def is_unreachable(lines: Sequence[str]) -> bool:
    """Did it fail because an index or a host could not be reached (not because it answered no)?"""
    text = "\n".join(lines)
    return any(mark in text for mark in _UNREACHABLE)


def explain(step: Step, exited: Exited, lines: Sequence[str], recipe: Recipe, settings: BuildSettings) -> BuildError:
    """The error of a step of a build that did not end well."""
    if exited.error:
        return BuildError(f"{step.doing}: {exited.error}", "The server's operator can see more in `roost doctor`.")
    if exited.oom_killed:
        return BuildError(f"{step.doing}: the machine ran out of memory", "Deploy again when less is running, or ask for fewer packages.")
    if exited.signal is not None:
        hint = "Deploy again. If it happens again, the machine may be short of memory."
        return BuildInterrupted(f"{step.doing}: the build was killed (signal {exited.signal})", hint)
    return BuildError(f"{step.doing}:\n{words(lines)}", _advice("\n".join(lines), step, recipe, settings))


def words(lines: Sequence[str]) -> str:
    """The part of the output that says what is wrong, without the middle if it is long."""
    begin = next((number for number, line in enumerate(lines) if _ERROR_BEGINS.match(line)), 0)
    told = [line for line in lines[begin:] if line.strip()]
    if len(told) > _MOST_LINES:
        # The compiler's last words say more than its first.
        told = [*told[:5], f"  ... {len(told) - _MOST_LINES} more lines in the build's log ...", *told[5 - _MOST_LINES :]]
    return "\n".join(told) or "it said nothing"


def _advice(text: str, step: Step, recipe: Recipe, settings: BuildSettings) -> str:
    if "No space left on device" in text:
        return "The server's disk is full. Free space there, for example with `roost builds prune --all`."
    if "No interpreter found" in text or "Failed to inspect Python interpreter" in text:
        return _about_python(recipe.python_version, settings)
    if "unsatisfiable" in text or "No solution found" in text:
        return _about_conflict(text, step, recipe)
    if "invalid peer certificate" in text:
        return "The server does not trust the certificate of the package index: set SSL_CERT_FILE in its environment to the file with the authority's."
    if is_unreachable([text]):
        return (
            "The package index cannot be reached from the server, and not everything needed has been downloaded before. "
            "Check the server's network, or set index_url or find_links in its server.toml."
        )
    if re.search(r"\b(401|403)\b", text) and "Failed to fetch" in text:
        return "The package index refused the server's credentials. Check index_url and extra_index_urls in its server.toml."
    if "Failed to build" in text:
        return (
            "This package has no ready-made wheel for this Python and machine, and building it from source failed. "
            "Choose a version that has a wheel, or install the compiler or library that it asks for on the server."
        )
    if "Couldn't parse requirement" in text or "Unexpected '" in text or "Invalid URL" in text:
        return "Correct the item in `requirements`: each is one line as in a requirements.txt."
    return ""


def _about_python(version: str, settings: BuildSettings) -> str:
    downloads = "" if settings.python_downloads == "automatic" else ', or set python_downloads = "automatic" in its server.toml'
    return f"Install python{version} on the server{downloads}; or deploy from another Python version (python_version must be the author's own)."


def _about_conflict(text: str, step: Step, recipe: Recipe) -> str:
    for pin in recipe.pins:
        name, _, version = pin.partition("==")
        if not version or not re.search(rf"(?<![\w.-]){re.escape(name)}=={re.escape(version)}(?![\w])", text):
            continue
        return (
            f"Runners use the author's own {name}, here {version}. Change the requirement so that {name} {version} fits, "
            f"or install the version that you require on your machine and deploy again."
        )
    if "was not found in the" in text:
        return "Check the spelling. If the package is on another index, add its `--extra-index-url` to the requirements or to the server's settings."
    if re.search(r"ABI tag|platform tag|does not satisfy Python|Requires-Python", text):
        return f"Choose a version that supports Python {recipe.python_version}, or deploy from another Python version."
    if step.requirements and recipe.layers and step.requirements != recipe.layers[0]:
        return "Later layers keep what earlier layers installed. Change one of the requirements, or put both into the same layer."
    return "Change the requirements so that one set of versions fits all of them."
