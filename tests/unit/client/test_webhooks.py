"""What a receiver believes: deliveries of the server's signer, whole, new, and nothing else (faults.md S-13)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from email import message_from_string
from pathlib import Path
from typing import Any

import httpx
import pytest

import roost
from roost.client.errors import ClientConnectionError, ClientError
from roost.client.webhooks import AGAIN_S, APART_S, FRESH_S, LONGEST_S, Delivery, RemoteKeys, WebhookRejected, public_keys, verify_webhook
from roost.data.signing import ANNOUNCED_S, Signer

BODY = b'{"request_id":"q1","status":"OK","payload":{"n":1.50}}'
NOW_S = 1_700_000_000


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path / "keys", lambda: NOW_S)


def signed(signer: Signer, body: bytes = BODY, at_s: int = NOW_S) -> dict[str, str]:
    return dict(signer.sign("q1", "ada", at_s, body))


def test_a_delivery_as_it_was_sent_is_believed(signer: Signer) -> None:
    assert roost.verify_webhook(signed(signer), BODY, signer.jwks(), now_s=NOW_S) == Delivery("q1", "ada", NOW_S)


@pytest.mark.parametrize(
    "shape",
    [
        lambda headers: {name.lower(): value for name, value in headers.items()},
        lambda headers: {name.upper(): value for name, value in headers.items()},
        lambda headers: [(b"host", b"x"), *((name.lower().encode(), value.encode()) for name, value in headers.items())],
        lambda headers: iter(headers.items()),
        lambda headers: message_from_string("".join(f"{name}: {value}\n" for name, value in headers.items())),
        httpx.Headers,
    ],
    ids=["lower case", "upper case", "as ASGI has them", "pairs", "of the standard library", "of httpx"],
)
def test_headers_may_come_in_any_shape(signer: Signer, shape: Callable[[Mapping[str, str]], Any]) -> None:
    assert verify_webhook(shape(signed(signer)), BODY, signer.jwks(), now_s=NOW_S).request_id == "q1"


@pytest.mark.parametrize("body", [BODY + b"\n", BODY.replace(b"1.50", b"1.5"), b"", BODY.replace(b"OK", b"ok")])
def test_a_changed_body_is_refused(signer: Signer, body: bytes) -> None:
    with pytest.raises(WebhookRejected, match="fits none of the server's keys"):
        verify_webhook(signed(signer), body, signer.jwks(), now_s=NOW_S)


@pytest.mark.parametrize(
    ("name", "value"),
    [("Request-Id", "q2"), ("User-Id", "bob"), ("Timestamp", str(NOW_S + 1)), ("Signature", "00" * 64)],
)
def test_a_changed_header_is_refused(signer: Signer, name: str, value: str) -> None:
    with pytest.raises(WebhookRejected, match="fits none of the server's keys"):
        verify_webhook({**signed(signer), f"X-Fal-Webhook-{name}": value}, BODY, signer.jwks(), now_s=NOW_S)


@pytest.mark.parametrize(
    ("off_s", "complaint"),
    [(-301, "signed 301 s ago"), (301, "signed 301 s ahead of this machine's clock"), (-300, ""), (300, ""), (0, "")],
)
def test_a_delivery_counts_for_five_minutes(signer: Signer, off_s: int, complaint: str) -> None:
    headers = signed(signer, at_s=NOW_S + off_s)
    if not complaint:
        assert verify_webhook(headers, BODY, signer.jwks(), now_s=NOW_S).timestamp == NOW_S + off_s
        return
    with pytest.raises(WebhookRejected, match=complaint) as refused:
        verify_webhook(headers, BODY, signer.jwks(), now_s=NOW_S)
    assert "clock" in refused.value.hint


def test_without_a_moment_the_clock_of_this_machine_counts(signer: Signer) -> None:
    with pytest.raises(WebhookRejected, match="ago, and 300 s is the most"):
        verify_webhook(signed(signer), BODY, signer.jwks())


def test_the_key_of_another_server_is_refused(signer: Signer, tmp_path: Path) -> None:
    other = Signer(tmp_path / "other", lambda: NOW_S)
    with pytest.raises(WebhookRejected, match="fits none"):
        verify_webhook(signed(other), BODY, signer.jwks(), now_s=NOW_S)


BAD_HEADERS: dict[str, tuple[dict[str, str | None], str]] = {
    **{
        f"no {name}": ({f"X-Fal-Webhook-{name}": None}, f"X-Fal-Webhook-{name} is missing")
        for name in ("Request-Id", "User-Id", "Timestamp", "Signature")
    },
    "an empty id": ({"X-Fal-Webhook-Request-Id": ""}, "Request-Id has no single value"),
    "a line break": ({"X-Fal-Webhook-User-Id": "a\nb"}, "User-Id has no single value"),
    "a word for a moment": ({"X-Fal-Webhook-Timestamp": "now"}, "'now' and not a moment"),
    "a fraction": ({"X-Fal-Webhook-Timestamp": f"{NOW_S}.0"}, "not a moment"),
    "a sign": ({"X-Fal-Webhook-Timestamp": f"+{NOW_S}"}, "not a moment"),
    "digits of another script": ({"X-Fal-Webhook-Timestamp": "١٧٠٠٠٠٠٠٠٠"}, "not a moment"),
    "endless digits": ({"X-Fal-Webhook-Timestamp": "1" * 5000}, "not a moment"),
    "a short signature": ({"X-Fal-Webhook-Signature": "abcd"}, "not an Ed25519 signature"),
    "base64 for hex": ({"X-Fal-Webhook-Signature": "Zm9v" * 22}, "not an Ed25519 signature"),
}


@pytest.mark.parametrize("kind", BAD_HEADERS)
def test_headers_that_cannot_be_right_are_named(kind: str, signer: Signer) -> None:
    changes, complaint = BAD_HEADERS[kind]
    headers = {name: value for name, value in {**signed(signer), **changes}.items() if value is not None}
    with pytest.raises(WebhookRejected, match=complaint):
        verify_webhook(headers, BODY, signer.jwks(), now_s=NOW_S)


def test_a_header_that_comes_twice_is_refused(signer: Signer) -> None:
    twice = [*signed(signer).items(), ("x-fal-webhook-timestamp", str(NOW_S))]
    with pytest.raises(WebhookRejected, match="Timestamp has no single value"):
        verify_webhook(twice, BODY, signer.jwks(), now_s=NOW_S)


def test_text_for_a_body_is_a_mistake_that_is_explained(signer: Signer) -> None:
    with pytest.raises(TypeError, match="the bytes that arrived, not str: JSON that was read and written again has others"):
        verify_webhook(signed(signer), BODY.decode(), signer.jwks(), now_s=NOW_S)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{}, {"keys": {"keys": []}, "jwks_url": "https://x"}])
def test_keys_or_their_address_are_needed(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one of the two"):
        verify_webhook({}, b"", **given)


def test_an_address_that_is_none_is_said_before_anything_is_fetched(signer: Signer) -> None:
    with pytest.raises(ValueError, match="must be an http or https URL, not 'file:///etc/passwd'"):
        verify_webhook(signed(signer), BODY, jwks_url="file:///etc/passwd", now_s=NOW_S)


GOOD = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}


@pytest.mark.parametrize(
    ("jwks", "many"),
    [
        ({"keys": [GOOD]}, 1),
        ({"keys": [{"x": GOOD["x"] + "="}]}, 1),
        ({"keys": [{**GOOD, "crv": "X25519"}, {"kty": "RSA", "n": "1", "e": "AQAB"}, "text", None, {**GOOD, "x": 7}, GOOD]}, 1),
        ({"keys": []}, 0),
        ({"keys": "text"}, 0),
        ({"keys": [{**GOOD, "x": "AAAA"}]}, 0),
        ({"keys": [{**GOOD, "x": "ä"}]}, 0),
        ({}, 0),
        ([GOOD], 0),
    ],
)
def test_of_a_jwks_the_ed25519_keys_count(jwks: Any, many: int) -> None:
    if many:
        assert len(public_keys(jwks)) == many
        return
    with pytest.raises(ValueError, match="there is no Ed25519 key in this"):
        public_keys(jwks)


# --- keys that are fetched


class Remote:
    """A server's JWKS address, and a receiver that asks it."""

    def __init__(self, jwks: Iterable[dict[str, Any] | OSError | bytes]) -> None:
        self.answers = list(jwks)
        self.asked = 0
        self.s = 0.0
        self.keys = RemoteKeys(self.fetch, "https://x/jwks.json", lambda: self.s)

    def fetch(self) -> bytes:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, OSError):
            raise answer
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


OTHER = {**GOOD, "x": "A" * 43}
AWAY = OSError("connection refused")


def test_fetched_keys_are_kept_for_an_hour() -> None:
    remote = Remote([{"keys": [GOOD]}])
    for s in (0, 1, FRESH_S - 1):
        remote.s = s
        remote.keys.keys()
    assert remote.asked == 1
    remote.s = FRESH_S
    remote.keys.keys()
    assert remote.asked == 2


def test_a_signature_that_no_key_fits_asks_again_once_a_minute() -> None:
    remote = Remote([{"keys": [GOOD]}, {"keys": [GOOD, OTHER]}])
    remote.keys.keys()
    assert remote.keys.newer() == ()
    remote.s = APART_S
    assert len(remote.keys.newer()) == 2
    assert [remote.keys.newer() for _ in range(100)] == [()] * 100
    assert remote.asked == 2


def test_keys_of_today_count_while_the_server_is_away() -> None:
    remote = Remote([{"keys": [GOOD]}, AWAY])
    first = remote.keys.keys()
    remote.s = LONGEST_S - 1
    assert remote.keys.keys() == first
    remote.s = LONGEST_S
    with pytest.raises(ClientConnectionError, match=r"cannot be fetched from https://x/jwks\.json: connection refused"):
        remote.keys.keys()


@pytest.mark.parametrize("trouble", [AWAY, b"<html>", b"[" * 100_000, {"keys": []}])
def test_without_any_keys_every_delivery_is_put_off_and_the_server_is_not_asked_each_time(trouble: Any) -> None:
    remote = Remote([trouble, {"keys": [GOOD]}])
    for _ in range(10):
        with pytest.raises(ClientConnectionError, match=r"cannot be fetched.*503"):
            remote.keys.keys()
    assert remote.asked == 1
    remote.s = AGAIN_S
    assert len(remote.keys.keys()) == 1


def test_a_planned_change_of_keys_refuses_nothing_even_with_keys_of_yesterday(tmp_path: Path) -> None:
    now = [float(NOW_S)]
    signer = Signer(tmp_path / "keys", lambda: now[0])
    yesterday = signer.jwks()
    signer.rotate()
    now[0] += 24 * 3600
    verify_webhook(signed(signer, at_s=int(now[0])), BODY, yesterday, now_s=now[0])
    today = signer.jwks()
    now[0] += ANNOUNCED_S - 24 * 3600
    verify_webhook(signed(signer, at_s=int(now[0])), BODY, today, now_s=now[0])
    with pytest.raises(WebhookRejected):
        verify_webhook(signed(signer, at_s=int(now[0])), BODY, yesterday, now_s=now[0])


def test_a_machine_without_cryptography_is_told_what_to_install(signer: Signer) -> None:
    program = f"""
import sys
sys.modules["cryptography"] = None
from roost import ClientError, verify_webhook
try:
    verify_webhook({signed(signer)!r}, {BODY!r}, {signer.jwks()!r}, now_s={NOW_S})
except ClientError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ClientError Signatures of webhooks cannot be checked")
    assert "pip install cryptography" in done.stdout


def test_a_rejection_is_an_error_of_the_client_with_a_hint(signer: Signer) -> None:
    with pytest.raises(ClientError) as refused:
        verify_webhook({}, BODY, signer.jwks(), now_s=NOW_S)
    assert isinstance(refused.value, roost.WebhookRejected)
    assert refused.value.hint
