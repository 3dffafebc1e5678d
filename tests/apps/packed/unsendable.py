"""One app for each thing that cannot travel."""

import ctypes
import socket
import sqlite3

import roost

LOG = open(__file__)  # noqa: SIM115 - this file is about leaving it open
SOCKET = socket.socket()
LINES = (line for line in ["a"])
DATABASE = sqlite3.connect(":memory:")
POINTER = ctypes.pointer(ctypes.c_int(1))


def close_all():
    LOG.close()
    SOCKET.close()
    DATABASE.close()


def write(text):
    LOG.write(text)


class File(roost.App):
    @roost.endpoint("/")
    def root(self) -> None:
        write("x")


class Socket(roost.App):
    @roost.endpoint("/")
    def root(self) -> None:
        SOCKET.send(b"")


class Generator(roost.App):
    lines = {"of": [LINES]}

    @roost.endpoint("/")
    def root(self) -> None:
        pass


class Holder:
    def __init__(self, connection):
        self.connection = connection


HOLDER = Holder(DATABASE)


class Database(roost.App):
    @roost.endpoint("/")
    def root(self) -> None:
        HOLDER.connection.execute("select 1")


class Pointer(roost.App):
    @roost.endpoint("/")
    def root(self, at=POINTER) -> None:
        pass


def closing(over):
    def inner():
        return over

    return inner


CLOSED = closing(SOCKET)


class Closure(roost.App):
    @roost.endpoint("/")
    def root(self) -> None:
        CLOSED()
