"""The same verbs without blocking."""

from __future__ import annotations

import asyncio
import inspect

import fal_client
from fal_client import AsyncClient, Completed, FalClientTimeoutError
from world import PARROT, calls, failure_of, mark, until


def the_verbs_of_the_module_work_in_an_event_loop():
    async def main():
        me, ids, updates = mark(), [], []
        assert await fal_client.run_async(PARROT, {"text": "hi"}) == {"text": "hi"}
        handle = await fal_client.submit_async(PARROT, {"mark": me, "ms": 100, "steps": 1}, path="/work", priority="low")
        seen = [event async for event in handle.iter_events(with_logs=True)]
        assert isinstance(seen[-1], Completed) and [line["message"] for line in seen[-1].logs] == ["step 0"]
        assert (await handle.get())["mark"] == (await fal_client.result_async(PARROT, handle.request_id))["mark"] == me
        assert isinstance(await fal_client.status_async(PARROT, handle.request_id), Completed)
        got = await fal_client.subscribe_async(
            PARROT, {"mark": me, "steps": 1}, path="/work", with_logs=True, on_enqueue=ids.append, on_queue_update=updates.append
        )
        assert got == {"mark": me, "request_id": ids[0]} and isinstance(updates[-1], Completed)

    asyncio.run(main())


def many_requests_wait_side_by_side():
    async def main():
        client = AsyncClient()
        jobs = (client.subscribe(PARROT, {"mark": "", "ms": 200}, path="/work") for _ in range(20))
        assert len({job["request_id"] for job in await asyncio.gather(*jobs)}) == 20

    asyncio.run(main())


def cancelling_and_time_outs_end_requests():
    async def main():
        client, me = AsyncClient(), mark()
        handle = await client.submit(PARROT, {"mark": me}, path="/patient")
        await asyncio.to_thread(until, "it runs", lambda: calls(me) == 1)
        await client.cancel(PARROT, handle.request_id)
        assert (await failure_of(handle.get())).status_code == 499
        me, ids = mark(), []
        try:
            await client.subscribe(PARROT, {"mark": me}, path="/patient", client_timeout=1.5, on_enqueue=ids.append)
            raise AssertionError("it went on for ever, and ended")
        except FalClientTimeoutError as error:
            told = error
        assert [told.request_id] == ids
        again = client.get_handle(PARROT, ids[0])
        handle = await again if inspect.isawaitable(again) else again
        async for event in handle.iter_events():
            last = event
        assert isinstance(last, Completed) and calls(f"{me}-cancelled") == 1

    asyncio.run(main())


def errors_say_the_same():
    async def main():
        client = AsyncClient()
        for verb in (client.run, client.subscribe):
            error = await failure_of(verb(PARROT, {"times": 0}))
            assert (error.status_code, len(error.message)) == (422, 2)
        error = await failure_of(AsyncClient(key="wrong:key").run(PARROT, {}))
        assert (error.status_code, error.error_type) == (401, "unauthorized")

    asyncio.run(main())
