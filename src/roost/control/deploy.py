"""From a bundle on this machine to a running app: upload what the server lacks, then listen to its events."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from roost.control.api import Api, Stream
from roost.control.errors import ControlError, LostContact
from roost.control.events import Accepted, Attached, Done, Ended, Event, Failed, LogLine, Lost, Ready, parse
from roost.control.patience import Broken, Mended, with_patience
from roost.wire.manifest import Manifest

CHUNK = 256 * 1024

Blob = bytes | Path
"""A piece of a bundle: its bytes, or the file that holds them."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What an upload sent: how many pieces the server lacked, and their bytes."""

    pieces: int
    size: int


def upload(
    api: Api, manifest: Manifest, blobs: Mapping[str, Blob], on_progress: Callable[[int, int], None] = lambda sent, total: None
) -> Uploaded:
    """Send the pieces that the server does not hold yet. `on_progress(sent, total)` counts bytes and is called as they leave."""
    missing = [sha for sha in api.missing_blobs(manifest.blobs()) if sha in blobs]
    sizes = {sha: _size(blobs[sha]) for sha in missing}
    total, sent = sum(sizes.values()), 0

    def counted(chunks: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal sent
        for chunk in chunks:
            yield chunk
            sent += len(chunk)
            on_progress(sent, total)

    for sha in missing:
        api.put_blob(sha, counted(_chunks(blobs[sha])), sizes[sha])
    return Uploaded(len(missing), total)


def deploy(
    api: Api,
    manifest: Manifest,
    *,
    auth: str | None,
    strategy: str = "rolling",
    reset_scale: bool = False,
    detach: bool = False,
    clock: Callable[[], float] = monotonic,
    pause: Callable[[float], None] = sleep,
) -> Generator[Event, None, None]:
    """The events of a deploy, the last of which is Done. Raises ControlError with the server's reason when it failed.

    `reset_scale` takes every setting from the class, also those that were tuned. With `detach` it goes on by itself (status "rolling_out").

    A stream that breaks is taken up again, Lost and then Attached: the server that follows goes on with the same revision.
    """
    body = {"manifest": manifest.to_json(), "auth": auth, "strategy": strategy, "message": manifest.message}
    body |= {name: True for name, wanted in (("reset_scale", reset_scale), ("detach", detach)) if wanted}
    yield from _through_restarts(api.deploy, body, clock, pause)


def run(
    api: Api,
    manifest: Manifest,
    *,
    auth: str,
    session: str,
    clock: Callable[[], float] = monotonic,
    pause: Callable[[float], None] = sleep,
) -> Generator[Event, None, None]:
    """The events of a run, until somebody else ends it (Ended is the last) or the iteration is closed, which ends the run.

    A stream that breaks is taken up again under the same `session`: Lost, then Attached, and the app keeps its address.
    """
    body = {"manifest": manifest.to_json(), "auth": auth, "session": session}
    yield from _through_restarts(api.run, body, clock, pause)


def deployed(api: Api, manifest: Manifest, *, auth: str | None) -> Ready:
    """Deploy without listening, for programs: answers where the app is."""
    ready: Ready | None = None
    for event in deploy(api, manifest, auth=auth):
        if isinstance(event, Ready):
            ready = event
    if ready is None:
        raise ControlError("The server finished the deploy without saying where the app is.", hint="See `roost apps list`.")
    return ready


def refused(failed: Failed) -> ControlError:
    return ControlError(failed.detail or "The server gave no reason.", hint=failed.hint, code=failed.error_type)


def name_of(accepted: Accepted | Ready) -> str:
    """The app's name without its owner, which `Api.end_run` wants."""
    return accepted.application.partition("/")[2] or accepted.application


def _through_restarts(
    post: Callable[[dict[str, Any]], Stream], body: dict[str, Any], clock: Callable[[], float], pause: Callable[[float], None]
) -> Generator[Event, None, None]:
    """The events of `post(body)`; when they break off, those of the same sent again, with the moment up to which the output is known."""
    seen_ms: int | None = None

    def attach() -> Iterator[Event]:
        nonlocal seen_ms
        since = {} if seen_ms is None else {"since": seen_ms + 1}
        # From now on this is one author who comes back: of what they have not seen, everything is news.
        seen_ms = seen_ms or 0
        return _until_the_end(post({**body, **since}))

    for item in with_patience(attach, clock=clock, pause=pause):
        match item:
            case Broken(reason):
                yield Lost(reason)
            case Mended():
                yield Attached()
            case Failed():
                raise refused(item)
            case LogLine() if item.source != "builder":
                seen_ms = max(seen_ms or 0, item.at_ms or 0)
                yield item
            case _:
                yield item


def _until_the_end(stream: Stream) -> Iterator[Event]:
    for event in _events(stream):
        yield event
        if isinstance(event, (Done, Failed, Ended)):
            return
    raise LostContact("The server went away.", hint="Run the same command again: what is built already is not built twice.")


def _events(stream: Stream) -> Iterator[Event]:
    try:
        for line in stream:
            event = parse(line)
            if event is not None:
                yield event
    finally:
        stream.close()


def _size(blob: Blob) -> int:
    return len(blob) if isinstance(blob, bytes) else blob.stat().st_size


def _chunks(blob: Blob) -> Iterator[bytes]:
    if isinstance(blob, bytes):
        for start in range(0, len(blob), CHUNK):
            yield blob[start : start + CHUNK]
        return
    with blob.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
