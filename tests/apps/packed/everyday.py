"""What ordinary app files are made of: constants, helpers, closures, dataclasses, enums, caches, locks."""

import contextvars
import dataclasses
import enum
import functools
import logging
import os
import random
import threading
import typing
import weakref

import roost

GREETING = os.environ.get("GREETING_OF_THIS_MACHINE", "none")
TABLE = {"a": [1, 2, 3], "b": (4, 5)}
MADE_HERE = random.random()
STARTED = "not guarded"

log = logging.getLogger("everyday")
lock = threading.Lock()
reentrant = threading.RLock()
event = threading.Event()
per_thread = threading.local()
request = contextvars.ContextVar("request", default="nobody")
seen = weakref.WeakValueDictionary()

T = typing.TypeVar("T", bound="Animal")
P = typing.ParamSpec("P")
UserId = typing.NewType("UserId", int)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"

    def shout(self):
        return self.value.upper()


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


@dataclasses.dataclass
class Animal:
    name: str
    legs: int = 4
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0
    _: dataclasses.KW_ONLY
    label: str = "p"


@dataclasses.dataclass
class Dog(Animal):
    breed: str = "mutt"


class Stack(typing.Generic[T]):
    def __init__(self):
        self.items = []

    def push(self, item: T) -> T:
        self.items.append(item)
        return item


class Pair(typing.NamedTuple):
    left: int
    right: int = 2


class Options(typing.TypedDict, total=False):
    size: int


class Base:
    def who(self):
        return "base"


class Derived(Base):
    def who(self):
        return "derived of " + super().who()


def counter(start):
    value = start

    def step(by=1):
        nonlocal value
        value += by
        return value

    return step


def twice(function):
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs):
        return [function(*args, **kwargs), function(*args, **kwargs)]

    return wrapper


step = counter(10)
calls = 0


@functools.lru_cache(maxsize=7)
def squared(n):
    global calls
    calls += 1
    return n * n


squared(3)


@functools.singledispatch
def describe(value):
    return "thing"


@describe.register
def _(value: int):
    return "number"


@twice
def hello(name):
    return f"{GREETING} {name}"


def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)


def set_started(value):
    global STARTED
    STARTED = value


def get_started():
    return STARTED


class Everyday(roost.App):
    keep_alive = 5
    shared = [hello]

    def setup(self):
        self.state = "ready"

    @roost.endpoint("/")
    def root(self) -> dict:
        with lock, reentrant:
            log.info("called")
        set_started("changed")
        described = [describe(1), describe("x")]
        return {
            "greeting": GREETING,
            "table": TABLE["b"],
            "made": MADE_HERE,
            "hello": hello("you"),
            "shared": self.shared[0]("me"),
            "step": [step(), step(5)],
            "squared": [squared(3), squared.cache_info().maxsize, calls],
            "color": [Color("red").shout(), Color.BLUE is Color["BLUE"], Level.HIGH > Level.LOW, (Rights.READ | Rights.WRITE).value],
            "animals": dataclasses.asdict(Dog("Rex", breed="pug")),
            "point": [Point(1).y, Point(1, label="q").label, Point(1) == Point(1), hash(Point(1)) == hash(Point(1))],
            "required": [f.name for f in dataclasses.fields(Point) if f.default is dataclasses.MISSING],
            "stack": Stack[Dog]().push("x"),
            "pair": Pair(1)._asdict(),
            "options": Options(size=3),
            "user": UserId(7),
            "derived": Derived().who(),
            "even": even(10),
            "started": get_started(),
            "event": event.is_set(),
            "request": request.get(),
            "describe": described,
            "seen": len(seen),
            "hints": sorted(typing.get_type_hints(Animal)),
            "local": hasattr(per_thread, "x"),
        }


if __name__ == "__main__":
    raise SystemExit("the guarded block ran")
