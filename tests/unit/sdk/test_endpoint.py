from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

import roost
from roost.sdk import endpoint
from roost.sdk.health import HealthCheck


def test_routes_come_in_the_order_of_writing_with_inherited_ones_first():
    class Base(roost.App):
        @roost.endpoint("/z")
        def z(self): ...

        @roost.endpoint("/replaced")
        def a(self): ...

    class Child(Base):
        @roost.endpoint("/b")
        def b(self): ...

        @roost.endpoint("/a")
        def a(self): ...

    assert Child.get_endpoints() == ["/z", "/a", "/b"]
    assert list(Child.collect_routes()) == ["z", "a", "b"]


def test_a_decorated_method_stays_callable_as_it_is():
    class X(roost.App):
        @roost.endpoint("/")
        def double(self, number: int) -> int:
            return number * 2

    assert X.double(X.__new__(X), 4) == 8


def test_a_decorator_between_keeps_the_route():
    def traced(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return inner

    class X(roost.App):
        @traced
        @roost.endpoint("/inside")
        def inside(self): ...

        @roost.endpoint("/outside")
        @traced
        def outside(self): ...

    assert X.get_endpoints() == ["/inside", "/outside"]


def test_two_methods_at_one_path_are_an_error():
    with pytest.raises(ValueError, match=r"X: a\(\) and b\(\) are both at '/'"):

        class X(roost.App):
            @roost.endpoint("/")
            def a(self): ...

            @roost.endpoint("/")
            def b(self): ...


def test_two_routes_on_one_method_are_an_error():
    with pytest.raises(ValueError, match="two routes"):

        @roost.endpoint("/a")
        @roost.endpoint("/b")
        def method(self: Any): ...


def test_a_second_health_check_is_an_error():
    with pytest.raises(ValueError, match=r"a\(\) and b\(\) are health checks"):

        class X(roost.App):
            @roost.endpoint("/a", health_check=HealthCheck())
            def a(self): ...

            @roost.endpoint("/b", health_check=HealthCheck())
            def b(self): ...


def test_a_websocket_cannot_be_the_health_check():
    with pytest.raises(ValueError, match="websocket cannot be a health check"):
        roost.endpoint("/ws", is_websocket=True, health_check=HealthCheck())


@pytest.mark.parametrize(
    ("path", "says"),
    [("run", "Write '/run'"), ("", "starts with '/'"), ("/a b", "no spaces"), ("/a?b", "no spaces"), ("/a\n", "no spaces")],
)
def test_a_path_that_no_caller_could_use_is_an_error(path: str, says: str):
    with pytest.raises(ValueError, match=says):
        roost.endpoint(path)


def test_a_forgotten_path_and_a_thing_that_is_no_method_are_errors():
    with pytest.raises(TypeError, match="needs its path"):
        roost.endpoint(lambda self: None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="decorates a method"):
        roost.endpoint("/")(staticmethod(len))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_period_seconds": -1},
        {"timeout_seconds": 0},
        {"failure_threshold": 0},
        {"failure_threshold": 1.5},
        {"method": "PUT"},
        {"timeout_seconds": True},
    ],
)
def test_a_wrong_health_check_is_an_error_that_names_the_value(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HealthCheck(**wrong)


def test_collect_works_on_any_class():
    assert endpoint.collect(object) == {}
