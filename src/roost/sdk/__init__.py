"""The author's side: the App class, what it declares, and the HTTP application made from it.

It runs on the author's machine and, unchanged, inside runners, where only the standard library, FastAPI and pydantic (at the author's
versions) exist. Nothing here imports FastAPI or pydantic before an ASGI application or an OpenAPI document is asked for.
"""
