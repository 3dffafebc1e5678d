"""An app whose health is what a file of the test says: `sick` is there or not."""

import os
from pathlib import Path

from fastapi import HTTPException, Request, Response

import roost

FOLDER = Path(os.environ.get("FOLDER", "."))


class Checked(roost.App, keep_alive=300, max_concurrency=1, startup_timeout=12):
    @roost.endpoint("/")
    def pid(self) -> dict:
        return {"pid": os.getpid()}

    @roost.endpoint("/asks")
    def asks(self, response: Response) -> dict:
        response.headers["x-fal-runner-health-check"] = "true"
        return {"pid": os.getpid()}

    @roost.endpoint("/ready", health_check=roost.HealthCheck(start_period_seconds=0, failure_threshold=1, timeout_seconds=2))
    def ready(self, request: Request) -> dict:
        assert request.headers["x-fal-runner-health-check"] == "true"
        if (FOLDER / "sick").exists():
            raise HTTPException(500, "not well")
        return {}

    def health(self) -> dict:
        raise HTTPException(502, "nobody should ask here")


class Asking(roost.App, keep_alive=300, max_concurrency=1):
    """Declares no check, and says by itself when it should be asked."""

    @roost.endpoint("/asks")
    def asks(self, response: Response) -> dict:
        response.headers["x-fal-runner-health-check"] = "true"
        return {"pid": os.getpid()}

    def health(self) -> dict:
        if (FOLDER / "sick").exists():
            raise HTTPException(503, "not well")
        return {}
