"""An app whose module imports numpy."""

import numpy as np
from pydantic import BaseModel

import roost


class Input(BaseModel):
    numbers: list[float] = [1.0, 2.0, 3.0]


class WithNumpy(roost.App):
    requirements = ["numpy"]
    keep_alive = 300

    @roost.endpoint("/")
    def mean(self, input: Input) -> dict:
        return {"mean": float(np.mean(np.array(input.numbers)))}
