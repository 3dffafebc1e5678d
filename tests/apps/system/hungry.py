"""Takes as much memory as it is told to, in the process or in a child, and says which GPUs it may use."""

import os
import subprocess
import sys

from pydantic import BaseModel

import roost

IN_A_CHILD = "x = bytearray({mb} << 20)\nfor at in range(0, len(x), 4096): x[at] = 1\nimport time; time.sleep(60)"


class Wish(BaseModel):
    mb: int = 0


class Hungry(roost.App, machine_type="XS", keep_alive=300, max_concurrency=1):
    app_name = "hungry"

    @roost.endpoint("/")
    def take(self, wish: Wish) -> dict:
        held = [b"x" * (4 << 20) for _ in range(wish.mb // 4)]
        return {"pid": os.getpid(), "held": len(held)}

    @roost.endpoint("/child")
    def child(self, wish: Wish) -> dict:
        done = subprocess.run([sys.executable, "-c", IN_A_CHILD.format(mb=wish.mb)], check=False)
        return {"code": done.returncode}


class Gpus(roost.App, machine_type="GPU", num_gpus=1, keep_alive=300, max_concurrency=3):
    app_name = "gpus"

    def preload(self):
        self.seen_by_the_template = os.environ.get("CUDA_VISIBLE_DEVICES")

    def setup(self):
        self.seen_by_setup = os.environ.get("CUDA_VISIBLE_DEVICES")

    @roost.endpoint("/")
    def which(self) -> dict:
        return {
            "preload": self.seen_by_the_template,
            "setup": self.seen_by_setup,
            "now": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "order": os.environ.get("CUDA_DEVICE_ORDER"),
            "pid": os.getpid(),
        }


class Small(roost.App, machine_type="XS", keep_alive=300):
    app_name = "small"

    @roost.endpoint("/")
    def which(self) -> dict:
        return {"now": os.environ.get("CUDA_VISIBLE_DEVICES"), "pid": os.getpid()}
