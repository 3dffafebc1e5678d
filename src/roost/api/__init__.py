"""The control plane over HTTP: thin. It checks, writes rows, nudges the engines and tells what becomes of it; the engines do the work.

api = build_api(parts)      an ASGI app; docs/internals/contracts.md has its calls, `app.py` the table of them
"""
