"""Pages say what the code says, and name only what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from roost.cli.main import COMMANDS
from roost.wire.errors import CODES
from scripts import reference
from tests.arch.sources import ROOT, packages

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
FRAGMENT = re.compile(r"\d+(-[a-z0-9-]+)?\.(added|changed|fixed|removed)\.md")


def test_reference_pages_are_made_from_the_present_code():
    assert reference.stale() == [], "run `make reference`"


@pytest.mark.parametrize("code", CODES)
def test_every_error_code_is_in_the_reference(code: str):
    assert f"| `{code}` | {CODES[code].status} |" in (ROOT / "docs/reference/errors.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_page_can_be_reached_from_the_index():
    index = ROOT / "docs" / "README.md"
    pages, reached = [index], set[Path]()
    while pages:
        page = pages.pop()
        reached.add(page)
        links = {(page.parent / target).resolve() for target in LINK.findall(page.read_text()) if target.endswith(".md")}
        pages += links - reached
    assert set((ROOT / "docs").rglob("*.md")) - reached == set()


@pytest.mark.parametrize("package", packages())
def test_every_package_is_on_the_map(package: str):
    assert f"\n{package}/ " in (ROOT / "docs/internals/map.md").read_text()


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_is_in_the_readme(command: str):
    assert f"\nroost {command}" in (ROOT / "README.md").read_text()


def test_changelog_fragments_have_names_that_a_release_understands():
    names = [file.name for file in (ROOT / "changelog.d").iterdir() if file.name != "README.md"]
    assert [name for name in names if not FRAGMENT.fullmatch(name)] == []
