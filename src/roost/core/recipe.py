"""What an environment is made of: the recipe of a spec, its key, and the conflict that no resolver needs to be asked about.

Two specs that would give the same environment have the same recipe, so it is built once: names and spaces are normalised, and
order counts between layers only (a later layer is installed under the constraints of the earlier ones).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from roost.core.model import Recipe
from roost.wire.spec import AppSpec

FORMAT = 1
"""Part of every key: raise it when environments of the same recipe are made in another way."""


@dataclass(frozen=True, slots=True)
class Index:
    """Where packages come from (the server's settings)."""

    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()


def recipe(spec: AppSpec) -> Recipe:
    """The normalised recipe of a spec. Empty lines and layers are dropped, what a layer says twice counts once."""
    layers = (_normalised(layer) for layer in spec.requirements)
    return Recipe(spec.python_version, tuple(layer for layer in layers if layer), _normalised(spec.pins), spec.resolver)


def key(recipe: Recipe, platform: str, index: Index) -> str:
    """The environment's name: 32 hexadecimal digits, the same on every machine with the same `platform` ("linux-x86_64-glibc2.36") and index."""
    parts = [
        FORMAT,
        recipe.python_version,
        recipe.resolver,
        recipe.layers,
        recipe.pins,
        platform,
        index.index_url,
        index.extra_index_urls,
        index.find_links,
    ]
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Conflict:
    """An author's requirement that excludes the version their class was pickled with."""

    requirement: str
    pin: str
    detail: str
    hint: str


def conflicts(layers: Sequence[Sequence[str]], pins: Sequence[str]) -> Conflict | None:
    """The first requirement that a pin contradicts. None means only that none is obvious: what is not simple is left to the resolver."""
    pinned = {name: (line, version) for line in pins for name, version in _pin(line)}
    for line in (line for layer in layers for line in layer):
        requirement = parse(line)
        if requirement is None or requirement.name not in pinned:
            continue
        pin, version = pinned[requirement.name]
        if all(allows(version, operator, operand) for operator, operand in requirement.specifiers):
            continue
        name, here = requirement.name, pin.partition("==")[2]
        return Conflict(
            line.strip(),
            pin,
            f"the app requires {line.strip()!r}, but the class was made with {name} {here}, and its pickle loads with that version only",
            f"Install the {name} you require where you deploy from, or make the requirement allow {here} "
            f"(or leave it out: the runner gets {name}=={here} anyway).",
        )
    return None


# --- requirements, as far as they are simple -----------------------------------------------------------------------------

_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[(?P<extras>[A-Za-z0-9._,\s-]*)\])?\s*(?P<specifiers>[^;@\s].*)?",
    re.DOTALL,
)
_SPECIFIER = re.compile(r"(==|>=|<=|!=|~=|<|>)\s*(\d+(?:\.\d+)*(?:\.\*)?)")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A requirement of a name, extras and comparisons with release numbers, all normalised."""

    name: str
    extras: tuple[str, ...]
    specifiers: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return self.name + extras + ",".join(operator + operand for operator, operand in self.specifiers)


def parse(line: str) -> Requirement | None:
    """The requirement, or None if it is not a simple one (markers, URLs, options, pre-releases, ...)."""
    match = _REQUIREMENT.fullmatch(line.strip())
    if match is None:
        return None
    specifiers: set[tuple[str, str]] = set()
    for part in (match["specifiers"] or "").split(","):
        found = _SPECIFIER.fullmatch(part.strip())
        if found is not None and _is_meaningful(found[1], found[2]):
            specifiers.add((found[1], found[2]))
        elif match["specifiers"]:
            return None
    extras = sorted({_normal_name(extra) for extra in (match["extras"] or "").split(",") if extra.strip()})
    return Requirement(_normal_name(match["name"]), tuple(extras), tuple(sorted(specifiers)))


def allows(version: tuple[int, ...], operator: str, operand: str) -> bool:
    """Whether a release satisfies one comparison, as PEP 440 says for release numbers."""
    if operand.endswith(".*"):
        prefix = _release(operand[:-2])
        starts = _padded(version, len(prefix))[: len(prefix)] == prefix
        return starts if operator == "==" else not starts
    asked = _release(operand)
    width = max(len(version), len(asked))
    have, want = _padded(version, width), _padded(asked, width)
    if operator == "~=":
        return have >= want and have[: len(asked) - 1] == want[: len(asked) - 1]
    return {"==": have == want, "!=": have != want, ">=": have >= want, "<=": have <= want, ">": have > want, "<": have < want}[operator]


def _is_meaningful(operator: str, operand: str) -> bool:
    """PEP 440 has no `>=1.*` and no `~=1`."""
    if operand.endswith(".*"):
        return operator in ("==", "!=")
    return operator != "~=" or "." in operand


def _pin(line: str) -> list[tuple[str, tuple[int, ...]]]:
    requirement = parse(line)
    if requirement is None or [operator for operator, _ in requirement.specifiers] != ["=="]:
        return []
    operand = requirement.specifiers[0][1]
    return [] if operand.endswith(".*") else [(requirement.name, _release(operand))]


def _normalised(lines: Sequence[str]) -> tuple[str, ...]:
    known = {_normal_line(line) for line in lines}
    return tuple(sorted(line for line in known if line and not line.startswith("#")))


def _normal_line(line: str) -> str:
    requirement = parse(line)
    return str(requirement) if requirement is not None else line.strip()


def _normal_name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _padded(version: tuple[int, ...], width: int) -> tuple[int, ...]:
    return version + (0,) * (width - len(version))
