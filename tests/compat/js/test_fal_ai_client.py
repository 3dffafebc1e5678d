"""`@fal-ai/client`, unmodified, from npm: what programs do with it, with each version and on each way that leads here, and what pages do."""

from __future__ import annotations

import re

import pytest

from tests.compat.js.conftest import FLOWS, HERE, REACHES, Outcomes, Ran

PAGE_FLOWS = re.findall(r'^  flow\("([^"]+)"', (HERE / "page.js").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("version", "way"), REACHES, ids=lambda word: word)
def test_the_official_client_does_all_that_programs_do_with_it(version: str, way: str, ran: Ran) -> None:
    failed = {title: error for title, error in ran[version, way].result().items() if error}
    if failed:
        pytest.fail("\n\n".join(f"{title}:\n{error}" for title, error in failed.items()), pytrace=False)


def test_no_flow_is_left_out(ran: Ran) -> None:
    titles = set(re.findall(r'^flow\(\s*"([^"]+)"', FLOWS.read_text(), re.MULTILINE))
    assert len(titles) > 25
    assert titles <= set(ran["newest", "door"].result())


@pytest.mark.parametrize("title", PAGE_FLOWS)
def test_in_a_browser(title: str, page: Outcomes) -> None:
    if page[title]:
        pytest.fail(page[title], pytrace=False)
