"""500 MB that every runner reads and none changes."""

from pydantic import BaseModel

import roost


class Input(BaseModel):
    at: int = 0


class WithWeights(roost.App):
    keep_alive = 300
    max_concurrency = 20
    machine_type = "S"

    def preload(self):
        self.weights = b"\x07" * (500 * 1024 * 1024)

    @roost.endpoint("/")
    async def look(self, input: Input) -> dict:
        return {"value": self.weights[input.at]}
