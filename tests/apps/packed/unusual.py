"""Rarer things that a class may refer to."""

import abc
import asyncio
import logging
import sys
import typing
from typing import Annotated

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, create_model

import roost

logger = logging.getLogger(__name__)
logger.addHandler(logging.StreamHandler())
handler = logging.StreamHandler(sys.stderr)
Dyn = create_model("Dyn", x=(int, 3))


class Abs(abc.ABC):
    @abc.abstractmethod
    def f(self): ...


class Impl(Abs):
    def f(self):
        return 1


class Proto(typing.Protocol):
    def f(self) -> int: ...


class Meta(type):
    def __new__(m, n, b, ns, **k):
        return super().__new__(m, n, b, ns)


class WithMeta(metaclass=Meta):
    y = 2


class Arb(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    i: Impl


class Err(Exception):
    def __init__(self, a):
        self.a = a
        super().__init__(f"err {a}")


lock = asyncio.Lock()


def dep(request: Request):
    return "dep"


def outer():
    class Local(BaseModel):
        z: int = 1
        nxt: "Local | None" = None

    return Local


Local = outer()


class Slotted:
    __slots__ = ("__weakref__", "a")

    def __init__(self):
        self.a = 1


class Desc:
    def __set_name__(self, o, n):
        self.n = n

    def __get__(self, i, o):
        return self.n


class Unusual(roost.App):
    d = Desc()

    class Nested(BaseModel):
        q: int = 1

    @roost.endpoint("/")
    async def root(self, request: Request, d: Annotated[str, Depends(dep)], b: Dyn) -> Dyn:
        return b

    def check(self):
        handler.setLevel(10)
        try:
            raise Err(3)
        except Err as e:
            m = str(e)
        return [
            Dyn().x,
            Impl().f(),
            WithMeta.y,
            Arb(i=Impl()).i.f(),
            m,
            Local(nxt={}).nxt.z,
            Slotted().a,
            self.d,
            self.Nested().q,
            isinstance(Impl(), Abs),
            lock.locked(),
        ]
