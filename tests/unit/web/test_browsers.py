"""Which pages may ask the control plane (faults.md S-07, S-27)."""

from __future__ import annotations

import pytest

from roost.web.browsers import Own, foreign

HERE = Own(["box", "roost.lan"], "https://roost.example.com", strict=True)
ANYWHERE = Own(["box"], "https://roost.example.com")


def asked(host: str, own: Own = HERE, method: str = "POST", **fields: str) -> str | None:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return foreign(method, [(b"host", host.encode()), *named], own)


@pytest.mark.parametrize("own", [HERE, ANYWHERE])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:8700", "", "roost.example.com"])
def test_who_is_no_browser_may_dial_by_any_name(own: Own, method: str, host: str) -> None:
    assert asked(host, own, method) is None


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8700", "[::1]:8700", "localhost:8700", "LOCALHOST", "app.localhost:1", "box:8700", "roost.lan", "queue.roost.lan",
     "roost.example.com", "rest.roost.example.com", "api.fal.ai", "192.168.1.5:80"],
)  # fmt: skip
def test_a_page_of_this_server_may_ask_it(host: str) -> None:
    for method in ("GET", "POST", "DELETE", "PUT", "PATCH"):
        assert asked(host, method=method, origin=f"http://{host}", sec_fetch_site="same-origin") is None
        assert asked(host, method=method, sec_fetch_site="same-origin") is None


@pytest.mark.parametrize(
    "host", ["evil.example:8700", "evil.example", "box.evil.example", "xbox", "127.0.0.1.evil.example", "evil.box", ""]
)
def test_a_name_that_was_bound_anew_to_this_machine_is_no_name_of_it(host: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        for field, value in (("origin", f"http://{host}"), ("sec_fetch_site", "same-origin"), ("sec_fetch_site", "none")):
            assert "no name of this server" in (asked(host, HERE, method, **{field: value}) or "")
    # Who listens for others as well may have been given any name.
    assert asked(host, ANYWHERE, sec_fetch_site="same-origin") is None


@pytest.mark.parametrize("own", [HERE, ANYWHERE])
@pytest.mark.parametrize(
    "fields",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://evil.example", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_a_page_of_somebody_else_changes_nothing(own: Own, fields: dict[str, str]) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert "another" in (asked("localhost:8700", own, method, **fields) or "")
    # Reading is up to the browser: without CORS fields it shows the page nothing.
    assert asked("localhost:8700", own, "GET", **fields) is None


def test_behind_a_proxy_that_says_nothing_the_public_name_is_ours() -> None:
    assert asked("127.0.0.1:8700", origin="https://roost.example.com", sec_fetch_site="same-origin") is None
