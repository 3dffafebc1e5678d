from __future__ import annotations

import pytest

from roost.sdk import names

DERIVED = {
    "TextToImage": "text-to-image",
    "ONNXModel": "o-n-n-x-model",
    "SDXL": "s-d-x-l",
    "Model2V": "model-v",
    "myApp": "app",
    "my_app": "my-app",
    "app": "app",
}


@pytest.mark.parametrize(("class_name", "name"), DERIVED.items())
def test_a_class_name_becomes_an_app_name(class_name: str, name: str):
    assert names.derive(class_name) == name


@pytest.mark.parametrize("name", ["a", "my-app", "SDXL_v2", "v1.5", "x" * 63])
def test_a_name_that_can_stand_in_a_url_is_taken_as_it_is(name: str):
    assert names.check(name) == name


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("my app", "my-app"),
        ("a/b", "a-b"),
        ("-a-", "a"),
        ("my-app--staging", "my-app-staging"),
        ("x" * 64, "x" * 63),
        ("..", "my-app"),
        ("é", "my-app"),
    ],
)
def test_a_bad_name_is_refused_with_one_that_works(name: str, better: str):
    with pytest.raises(ValueError, match="part of the app's URL") as caught:
        names.check(name)
    assert f"app_name = {better!r}" in str(caught.value)
    assert names.check(better) == better


def test_an_empty_name_is_refused():
    with pytest.raises(ValueError, match="empty"):
        names.check("")
