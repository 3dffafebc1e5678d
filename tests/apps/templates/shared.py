"""An app whose templates work: weights in preload(), and what forks must not have in common."""

import os
import random
import tempfile
import threading
import time
import uuid

import roost

MEGABYTES = 200


class Shared(roost.App):
    app_name = "shared"
    requirements = ["numpy"]
    keep_alive = 300
    max_concurrency = 30

    preloads = 0

    def preload(self):
        import numpy as np

        self.preloads += 1
        self.preloaded_in = os.getpid()
        self.secret_seen = [name for name in os.environ if "KEY" in name]
        self.weights = np.ones(MEGABYTES * 1024 * 1024 // 8)
        print("preload() has run")

    def setup(self):
        self.total = float(self.weights.sum())
        print("setup() has run")

    @roost.endpoint("/")
    def look(self, input: dict) -> dict:
        import numpy as np

        time.sleep(input.get("sleep", 0))
        return {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "session": os.getsid(0),
            "preloaded_in": self.preloaded_in,
            "preloads": self.preloads,
            "secret_seen": self.secret_seen,
            "key": os.environ.get("ROOST_KEY", ""),
            "job": os.environ.get("ROOST_JOB_ID", ""),
            "omp": os.environ.get("OMP_NUM_THREADS", ""),
            "total": self.total,
            "random": random.random(),
            "numpy": float(np.random.random()),
            "uuid1": str(uuid.uuid1()),
            "uuid4": str(uuid.uuid4()),
            "temporary": next(tempfile._get_candidate_names()),
            "product": float((np.ones((300, 300)) @ np.ones((300, 300))).sum()),
            "threads": threading.active_count(),
        }
