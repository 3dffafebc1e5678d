"""What app-lifecycle.md §1 promises, in one app: constants, helpers, files, requirements in layers, annotations as text."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum

import helpers
from pydantic import BaseModel, field_validator

import roost

AUTHOR = os.environ["PAINTER_AUTHOR"]
"""Read on the author's machine: the runner has no such variable."""


class Tone(Enum):
    WARM = "warm"
    COLD = "cold"


@dataclass
class Brush:
    width: int = 3


class Stroke(BaseModel):
    tone: Tone = Tone.WARM
    points: list[int] = []

    @field_validator("points")
    @classmethod
    def few(cls, points: list[int]) -> list[int]:
        if len(points) > 3:
            raise ValueError("too many points")
        return points


class Picture(BaseModel):
    tone: Tone
    width: int
    length: int


def scaled(by: int):
    return lambda value: value * by


DOUBLED = scaled(2)


class Painter(roost.App):
    local_python_modules = ["helpers"]
    requirements = [["six==1.16.0"], ["iniconfig"]]
    app_files = ["palette.txt", "tools"]
    keep_alive = 30
    max_multiplexing = 4

    def setup(self):
        self.brush = Brush()
        with open("palette.txt") as file:
            self.palette = file.read().strip()

    @roost.endpoint("/")
    def paint(self, stroke: Stroke) -> Picture:
        return Picture(tone=stroke.tone, width=DOUBLED(self.brush.width), length=len(stroke.points))

    @roost.endpoint("/facts")
    async def facts(self) -> dict:
        import iniconfig
        from tools.mixer import mix

        return {
            "author": AUTHOR,
            "variable": os.environ.get("PAINTER_AUTHOR"),
            "six": helpers.version_of_six(),
            "iniconfig": iniconfig.__name__,
            "palette": self.palette,
            "mixed": mix("red", "blue"),
            "folder": os.path.basename(os.getcwd()),
            "runner": os.environ["FAL_JOB_ID"] != "",
            "app": os.environ["FAL_APP_NAME"],
            "count": helpers.count(),
        }

    @roost.endpoint("/any")
    def anything(self, input_data):
        return {"got": input_data}

    @roost.endpoint("/who")
    def who(self) -> dict:
        return {"id": self.current_request.request_id}
