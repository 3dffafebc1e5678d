from __future__ import annotations

import pytest

from roost.builders.redact import redact, secrets_in


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("see https://tom:pw@index.test/simple", "see https://****@index.test/simple"),
        ("git+ssh://git@host.test/repo.git", "git+ssh://****@host.test/repo.git"),
        ("`https://token@host.test/x.whl`", "`https://****@host.test/x.whl`"),
        ("https://host.test/x.whl?sig=abc&e=1#sha256=77", "https://host.test/x.whl?****#sha256=77"),
        ("bee @ file:///tmp/bee.whl", "bee @ file:///tmp/bee.whl"),
        ("mail tom@host.test, 3 < 4 ?", "mail tom@host.test, 3 < 4 ?"),
        ("the password is tiger-7", "the password is ****"),
    ],
)
def test_credentials_become_stars_and_the_rest_stays(text: str, clean: str) -> None:
    assert redact(text, ["tiger-7"]) == clean


def test_secrets_are_known_by_the_names_of_their_variables() -> None:
    environ = {"UV_INDEX_A_PASSWORD": "tiger", "UV_PUBLISH_TOKEN": "tiger-7", "HOME": "/home/tom", "UV_INDEX_B_PASSWORD": "no"}
    assert secrets_in(environ) == ("tiger-7", "tiger")
