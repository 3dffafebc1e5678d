from pydantic import BaseModel

import roost


class Input(BaseModel):
    name: str = "world"


class Output(BaseModel):
    text: str


class Hello(roost.App):
    keep_alive = 60

    def setup(self):
        self.greeting = "Hello"

    @roost.endpoint("/")
    def greet(self, input: Input) -> Output:
        print("greeting", input.name)
        return Output(text=f"{self.greeting}, {input.name}!")
