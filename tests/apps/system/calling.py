"""Apps that call apps, with every client and verb, and one that tells how it was called."""

import asyncio
import os
import ssl

from fastapi import Request
from pydantic import BaseModel

import roost


class Ask(BaseModel):
    how: str = "roost.run"
    app: str
    """owner/name[/path]"""
    body: dict = {}


class Heard(roost.App, keep_alive=300, max_multiplexing=8, max_concurrency=1):
    """Private, as deployed apps are: only the owner's key opens it."""

    def preload(self) -> None:
        os.environ["FAL_REGION"] = "the moon"

    @roost.endpoint("/")
    def hear(self, request: Request) -> dict:
        return {"headers": dict(request.headers), "onward": roost.outgoing_headers(), "region": os.environ["FAL_REGION"]}


class Calling(roost.App, keep_alive=300, max_multiplexing=8, max_concurrency=1, request_timeout=120):
    requirements = ["fal-client==1.0.3"]

    @roost.endpoint("/")
    def blocking(self, ask: Ask) -> dict:
        import fal_client

        client, app, body = roost.Client(), ask.app, ask.body
        match ask.how:
            case "roost.run":
                return client.run(app, body)
            case "roost.subscribe":
                return client.subscribe(app, body)
            case "roost.submit":
                return client.submit(app, body).get()
            case "fal.run":
                return fal_client.run(app, body, headers=roost.outgoing_headers())
            case "fal.subscribe":
                return fal_client.subscribe(app, body, headers=roost.outgoing_headers())
            case "fal.submit":
                return fal_client.submit(app, body, headers=roost.outgoing_headers(deadline=False)).get()
        raise ValueError(ask.how)

    @roost.endpoint("/awaiting")
    async def awaiting(self, ask: Ask) -> dict:
        import fal_client

        app, body = ask.app, ask.body
        async with roost.AsyncClient() as client:
            match ask.how:
                case "roost.run":
                    return await client.run(app, body)
                case "roost.subscribe":
                    return await client.subscribe(app, body)
                case "roost.submit":
                    return await (await client.submit(app, body)).get()
                case "fal.run":
                    return await fal_client.run_async(app, body, headers=roost.outgoing_headers())
                case "fal.subscribe":
                    return await fal_client.subscribe_async(app, body, headers=roost.outgoing_headers())
                case "fal.submit":
                    return await (await fal_client.submit_async(app, body, headers=roost.outgoing_headers(deadline=False))).get()
        raise ValueError(ask.how)

    @roost.endpoint("/background")
    async def background(self, ask: Ask) -> dict:
        """The call goes on in a task of its own while this one waits in a thread: both belong to the same request."""
        task = asyncio.create_task(roost.AsyncClient().run(ask.app, ask.body))
        in_thread = await asyncio.to_thread(roost.outgoing_headers)
        return {"thread": in_thread, "task": await task}

    @roost.endpoint("/surroundings")
    def surroundings(self) -> dict:
        return {"SSL_CERT_FILE": os.environ["SSL_CERT_FILE"], "authorities": len(ssl.create_default_context().get_ca_certs())}
