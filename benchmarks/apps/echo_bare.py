"""What Roost is compared with: the handler and the models of echo.py under FastAPI, and nothing else."""

from fastapi import FastAPI
from pydantic import BaseModel


class Input(BaseModel):
    prompt: str
    steps: int = 4
    seed: int | None = None


class Output(BaseModel):
    text: str
    steps: int
    seed: int | None


app = FastAPI()


@app.post("/")
async def echo(input: Input) -> Output:
    return Output(text=input.prompt, steps=input.steps, seed=input.seed)
