"""The handler of echo.py under BentoML: `bentoml serve echo_bentoml:Echo`."""

import bentoml
from pydantic import BaseModel


class Output(BaseModel):
    text: str
    steps: int
    seed: int | None


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Echo:
    @bentoml.api(route="/echo")
    async def echo(self, prompt: str, steps: int = 4, seed: int | None = None) -> Output:
        return Output(text=prompt, steps=steps, seed=seed)
