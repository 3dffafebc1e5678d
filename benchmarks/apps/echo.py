"""The handler of every comparison, as a Roost app. echo_bare.py is the same under uvicorn alone."""

from pydantic import BaseModel

import roost


class Input(BaseModel):
    prompt: str
    steps: int = 4
    seed: int | None = None


class Output(BaseModel):
    text: str
    steps: int
    seed: int | None


class Echo(roost.App):
    min_concurrency = 1
    max_concurrency = 1
    max_multiplexing = 64

    @roost.endpoint("/")
    async def echo(self, input: Input) -> Output:
        return Output(text=input.prompt, steps=input.steps, seed=input.seed)
