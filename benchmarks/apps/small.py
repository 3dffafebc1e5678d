"""As little as an app can be."""

from pydantic import BaseModel

import roost


class Input(BaseModel):
    name: str = "world"


class Small(roost.App):
    keep_alive = 300
    max_concurrency = 300
    machine_type = "XS"

    @roost.endpoint("/")
    async def greet(self, input: Input) -> dict:
        return {"text": f"Hello, {input.name}!"}
