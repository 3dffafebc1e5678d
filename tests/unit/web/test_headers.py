from __future__ import annotations

from roost.web.headers import MAX_RESPONSE_HEAD, to_app, to_caller
from roost.wire.frames import Headers


def as_app(*fields: tuple[bytes, bytes]) -> dict[bytes, bytes]:
    return dict(to_app(list(fields), request_id="id", endpoint="me/app/x", caller="ada", client="192.0.2.1", scheme="https"))


def as_caller(status: int, *fields: tuple[bytes, bytes]) -> dict[bytes, bytes]:
    kept = to_caller(status, list(fields), request_id="id", runner_id="r")
    assert kept is not None
    return dict(kept)


def test_an_app_never_sees_a_key_of_ours_but_other_credentials_pass() -> None:
    assert b"authorization" not in as_app((b"authorization", b"Key id:secret"))
    assert b"authorization" not in as_app((b"authorization", b"KEY id:secret"))
    assert as_app((b"authorization", b"Bearer theirs"))[b"authorization"] == b"Bearer theirs"


def test_what_a_caller_claims_to_be_from_us_is_not_believed() -> None:
    seen = as_app((b"x-fal-request-id", b"forged"), (b"x-fal-caller-user-id", b"forged"), (b"x-forwarded-for", b"203.0.113.9"))
    assert (seen[b"x-fal-request-id"], seen[b"x-fal-caller-user-id"], seen[b"x-forwarded-for"]) == (b"id", b"ada", b"192.0.2.1")


def test_hop_by_hop_fields_end_here_in_both_directions() -> None:
    assert b"connection" not in as_app((b"connection", b"close"), (b"transfer-encoding", b"chunked"))
    assert b"transfer-encoding" not in as_caller(200, (b"transfer-encoding", b"chunked"))


def test_repeated_fields_stay_repeated() -> None:
    cookies: Headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    kept = to_caller(200, cookies, request_id="id", runner_id="r")
    assert kept is not None and kept[:2] == cookies


def test_needs_retry_is_believed_of_errors_only() -> None:
    wish = (b"x-fal-needs-retry", b"1")
    assert b"x-fal-needs-retry" not in as_caller(200, wish) and b"x-fal-needs-retry" not in as_caller(404, wish)
    assert b"x-fal-needs-retry" in as_caller(500, wish) and b"x-fal-needs-retry" in as_caller(429, wish)


def test_a_head_above_the_limit_is_none() -> None:
    assert to_caller(200, [(b"x", b"a" * MAX_RESPONSE_HEAD)], request_id="id", runner_id="r") is None


def test_a_key_of_ours_in_any_scheme_stays_here() -> None:
    field = (b"authorization", b"Bearer id:secret")
    seen = to_app([field], request_id="id", endpoint="me/app/x", caller="ada", client="192.0.2.1", scheme="https", key_used=True)
    assert b"authorization" not in dict(seen)
