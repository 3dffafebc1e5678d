"""An app whose module imports torch."""

import torch
from pydantic import BaseModel

import roost


class Input(BaseModel):
    numbers: list[float] = [1.0, 2.0, 3.0]


class WithTorch(roost.App):
    requirements = ["torch"]
    keep_alive = 300
    machine_type = "L"

    @roost.endpoint("/")
    def mean(self, input: Input) -> dict:
        return {"mean": float(torch.tensor(input.numbers).mean())}
