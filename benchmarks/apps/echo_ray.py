"""The handler of echo.py under Ray Serve, one replica: `python echo_ray.py PORT`."""

import logging
import signal
import sys

import ray
from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve

app = FastAPI()


class Input(BaseModel):
    prompt: str
    steps: int = 4
    seed: int | None = None


class Output(BaseModel):
    text: str
    steps: int
    seed: int | None


@serve.deployment(num_replicas=1, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0})
@serve.ingress(app)
class Echo:
    @app.post("/echo")
    async def echo(self, input: Input) -> Output:
        return Output(text=input.prompt, steps=input.steps, seed=input.seed)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING, _node_ip_address="127.0.0.1")
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1]), "location": "HeadOnly"})
    serve.run(Echo.bind(), route_prefix="/")
    signal.pause()
