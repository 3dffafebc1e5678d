"""What goes wrong between this machine and a server, as sentences for the person who typed the command or wrote the program."""

from __future__ import annotations


class ControlError(Exception):
    """A refusal: what happened and why in `detail`, what to do now in `hint`.

    `code` is the server's `error_type` (wire/errors.py) where a server said it, else "" for what was found out on this side.
    """

    def __init__(self, detail: str, *, hint: str = "", code: str = "", status: int = 0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.code = code
        self.status = status


class Unreachable(ControlError):
    """Nobody answered at the address, or the connection broke: trying again may help."""


class LostContact(ControlError):
    """A stream of events ended without a last word: the server was restarted or died."""
