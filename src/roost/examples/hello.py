"""The app of the README: one endpoint, no package beyond what every app has."""

import roost
from pydantic import BaseModel


class Input(BaseModel):
    name: str = "world"


class Output(BaseModel):
    text: str


class Hello(roost.App):
    keep_alive = 60  # seconds that an idle runner waits for its next request

    def setup(self):  # once in each runner: load models here
        self.greeting = "Hello"

    @roost.endpoint("/")
    def greet(self, input: Input) -> Output:
        return Output(text=f"{self.greeting}, {input.name}!")
