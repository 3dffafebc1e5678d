"""Where everything lies below the state folder (docs/internals/contracts.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Paths:
    """`home` is ROOST_HOME; all else is below `home/state`, which only its owner may read."""

    home: Path

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def database(self) -> Path:
        return self.state / "roost.db"

    @property
    def blobs(self) -> Path:
        return self.state / "blobs"

    @property
    def bundles(self) -> Path:
        return self.state / "bundles"

    @property
    def runtimes(self) -> Path:
        return self.state / "runtimes"

    @property
    def envs(self) -> Path:
        return self.state / "envs"

    @property
    def builds(self) -> Path:
        return self.state / "builds"

    @property
    def runner_logs(self) -> Path:
        return self.state / "logs" / "runners"

    @property
    def spool(self) -> Path:
        """Large request bodies on their way, as unlinked files."""
        return self.state / "spool"

    @property
    def payloads(self) -> Path:
        """Large bodies of queued requests and their results."""
        return self.state / "payloads"

    @property
    def data(self) -> Path:
        """What apps keep: model caches."""
        return self.state / "data"

    @property
    def tls(self) -> Path:
        """The local certificate authority; the folder is made with it."""
        return self.state / "tls"

    @property
    def webhook_keys(self) -> Path:
        """Private keys; the folder is made with the first of them."""
        return self.state / "webhook-keys"

    @property
    def traffic(self) -> Path:
        """When calls came and how long they took, for `roost simulate`."""
        return self.state / "traffic"

    def make(self) -> None:
        for folder in (
            self.state,
            self.blobs,
            self.bundles,
            self.runtimes,
            self.envs,
            self.builds,
            self.runner_logs,
            self.spool,
            self.payloads,
            self.data,
            self.traffic,
        ):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
