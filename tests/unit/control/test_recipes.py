"""What `roost env` prints, for which server, from where; and that shells and languages read back what was meant."""

from __future__ import annotations

import ast
import json
import shlex
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.control.recipes import (
    Addresses,
    Files,
    Recipe,
    Way,
    candidates,
    data,
    door_only,
    javascript,
    led_by_connect,
    python,
    recipe,
    shell,
)

KEY = "0a1b:s3cret"
FILES = Files("/home/ada/.roost/certificates/ca.pem", "/home/ada/.roost/certificates/bundle.pem")
LOCAL = "http://127.0.0.1:8700"
OWN = Addresses(LOCAL, "https://127.0.0.1:8700", "", LOCAL, "PEM")
NO_TLS = Addresses(LOCAL, "", "", LOCAL, "")
FAR = Addresses("http://127.0.0.1:8700", "https://127.0.0.1:8700", "", "http://127.0.0.1:8700", "PEM")
PUBLIC = Addresses(LOCAL, "https://roost.example", "", "https://roost.example", "PEM")


def made(told: Addresses, dialled: str, base: str, *, needs_ca: bool, **environ: str) -> Recipe:
    return recipe(told, dialled, KEY, Way(base, needs_ca), FILES, environ)


@pytest.mark.parametrize(
    ("told", "dialled", "expected"),
    [
        (OWN, LOCAL, ["https://127.0.0.1:8700"]),
        (NO_TLS, LOCAL, []),
        # The server says where it listens; from another machine only the address that was dialled can be it.
        (FAR, "http://10.0.0.5:8700", ["https://10.0.0.5:8700"]),
        (FAR, "https://10.0.0.5:8700", ["https://10.0.0.5:8700"]),
        (PUBLIC, "http://10.0.0.5:8700", ["https://roost.example", "https://10.0.0.5:8700"]),
        # From the machine itself the name outside may lead nowhere.
        (
            Addresses(LOCAL, "https://localhost:8700", "", "https://roost.example", ""),
            LOCAL,
            ["https://roost.example", "https://localhost:8700"],
        ),
        (PUBLIC, "https://roost.example/base", ["https://roost.example/base", "https://roost.example"]),
    ],
)
def test_addresses_are_tried_in_the_order_of_what_is_surest(told: Addresses, dialled: str, expected: list[str]):
    assert list(candidates(told, dialled)) == expected


def test_a_local_server_takes_two_hosts_a_key_and_its_certificates():
    assert dict(made(OWN, LOCAL, "https://127.0.0.1:8700", needs_ca=True).variables) == {
        "FAL_KEY": KEY,
        "FAL_RUN_HOST": "127.0.0.1:8700",
        "FAL_QUEUE_RUN_HOST": "127.0.0.1:8700/_queue",
        "SSL_CERT_FILE": FILES.bundle,
    }


def test_a_public_certificate_takes_no_certificates():
    found = made(PUBLIC, LOCAL, "https://roost.example", needs_ca=False)
    assert dict(found.variables) == {"FAL_KEY": KEY, "FAL_RUN_HOST": "roost.example", "FAL_QUEUE_RUN_HOST": "roost.example/_queue"}
    assert found.door == "https://roost.example/api/fal/proxy" and found.node_ca == ""


def test_the_connect_door_takes_a_proxy_and_no_hosts():
    told = Addresses(LOCAL, "https://127.0.0.1:8700", "127.0.0.1:3128", LOCAL, "PEM")
    found = made(told, LOCAL, "https://127.0.0.1:8700", needs_ca=True, no_proxy="intranet, localhost")
    assert dict(found.variables) == {
        "FAL_KEY": KEY,
        "https_proxy": "http://127.0.0.1:3128",
        "no_proxy": "intranet,localhost,127.0.0.1",
        "SSL_CERT_FILE": FILES.bundle,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": FILES.bundle,
        "NODE_EXTRA_CA_CERTS": FILES.ca,
        "NODE_USE_ENV_PROXY": "1",
    }
    assert found.unset == ("FAL_RUN_HOST", "FAL_QUEUE_RUN_HOST")


@pytest.mark.parametrize(
    ("ca", "dialled"),
    [("PEM", "http://10.0.0.5:8700"), ("", LOCAL)],
    ids=["it is open to its own machine only", "an operator's certificate does not speak for those names"],
)
def test_the_connect_door_is_not_for_everybody(ca: str, dialled: str):
    assert not led_by_connect(Addresses(LOCAL, "https://127.0.0.1:8700", "127.0.0.1:3128", LOCAL, ca), dialled)


def test_a_proxy_for_the_world_outside_is_not_asked_for_this_machine():
    found = dict(made(OWN, LOCAL, "https://127.0.0.1:8700", needs_ca=True, HTTPS_PROXY="http://proxy:3128", NO_PROXY="a").variables)
    assert found["no_proxy"] == "a,127.0.0.1"
    assert "no_proxy" not in dict(made(PUBLIC, LOCAL, "https://roost.example", needs_ca=False, HTTPS_PROXY="http://proxy:3128").variables)


def test_node_is_told_of_an_authority_only_where_it_meets_it():
    assert made(OWN, LOCAL, "https://127.0.0.1:8700", needs_ca=True).node_ca == ""
    far = made(FAR, "https://10.0.0.5:8700", "https://10.0.0.5:8700", needs_ca=True)
    assert far.node_ca == FILES.ca == dict(far.variables)["NODE_EXTRA_CA_CERTS"]
    assert javascript(far).startswith("// Start Node with NODE_EXTRA_CA_CERTS=/home/ada/.roost/certificates/ca.pem\n")


def test_without_tls_javascript_has_its_door_and_nothing_else_has_anything():
    found = door_only(LOCAL, KEY)
    assert found.variables == () and found.door == "http://127.0.0.1:8700/api/fal/proxy"


def test_the_javascript_recipe_reads_as_documented():
    assert (
        javascript(door_only(LOCAL, KEY))
        == """\
import { fal } from "@fal-ai/client";

fal.config({
  credentials: "0a1b:s3cret",
  proxyUrl: { url: "http://127.0.0.1:8700/api/fal/proxy", when: "always" },
});"""
    )


# --- quoting ------------------------------------------------------------------------------------------------------------------

keys = st.text(string.digits + string.ascii_letters + string.punctuation, min_size=1).map(lambda text: f"id:{text}")
# As Python gives file names: any text, and bytes that are none as lone surrogates. A variable holds no NUL.
paths = st.text(
    st.characters(exclude_characters="\0", exclude_categories=("Cs",))
    | st.sampled_from(["\udc80", "\udcff", "'", '"', "\n", "\r", "\u2028", "$", "`", "\\"])
)
odd = st.builds(
    lambda key, path, door: Recipe(key, (("FAL_KEY", key), ("SSL_CERT_FILE", path)), ("FAL_RUN_HOST",), f"https://{door}", f"/{path}"),
    keys,
    paths,
    keys,
)


@given(odd)
def test_a_shell_reads_back_any_key_and_path(one: Recipe):
    words = shlex.split(shell(one))
    assert words == ["unset", "FAL_RUN_HOST", *(word for name, value in one.variables for word in ("export", f"{name}={value}"))]


@given(odd)
def test_python_reads_back_any_key_and_path(one: Recipe):
    text = python(one)
    assert text.isascii()
    found: dict[str, Any] = {}
    for line in ast.parse(text).body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Subscript):
            found[ast.literal_eval(line.targets[0].slice)] = ast.literal_eval(line.value)
    assert found == dict(one.variables)


@given(odd)
def test_javascript_reads_back_any_key_and_address(one: Recipe):
    comment, *lines = javascript(one).splitlines()
    assert comment.startswith("// ")
    credentials, proxy = lines[3], lines[4]
    assert json.loads(credentials.strip().removeprefix("credentials: ").removesuffix(",")) == one.key
    assert json.loads(proxy.strip().removeprefix("proxyUrl: { url: ").removesuffix(', when: "always" },')) == one.door


@given(odd)
def test_programs_read_back_all_of_it(one: Recipe):
    found = json.loads(json.dumps(data(one)))
    assert found["env"] == dict(one.variables) and found["unset"] == ["FAL_RUN_HOST"]
    assert found["js"] == {"credentials": one.key, "proxyUrl": {"url": one.door, "when": "always"}}
