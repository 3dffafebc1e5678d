"""The handler of echo.py under LitServe: `python echo_litserve.py PORT`."""

import sys

import litserve
from pydantic import BaseModel


class Input(BaseModel):
    prompt: str
    steps: int = 4
    seed: int | None = None


class Output(BaseModel):
    text: str
    steps: int
    seed: int | None


class Echo(litserve.LitAPI):
    def setup(self, device):
        pass

    async def decode_request(self, request: Input):
        return request

    async def predict(self, input):
        return Output(text=input.prompt, steps=input.steps, seed=input.seed)

    async def encode_response(self, output) -> Output:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Echo(api_path="/echo", enable_async=True), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="warning", access_log=False, generate_client_file=False
    )
