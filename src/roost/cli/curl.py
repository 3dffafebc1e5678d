"""curl lines that work when they are pasted: one an endpoint, with a body that its schema accepts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

DEEPEST = 8
"""A schema that contains itself ends here."""

FORMATS = {
    "uri": "https://example.com",
    "date-time": "2030-01-01T00:00:00Z",
    "date": "2030-01-01",
    "time": "12:00:00",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "email": "someone@example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "duration": "PT1S",
    "binary": "",
}


def curl_line(url: str, path: str, openapi: Schema, *, key: str = "") -> str:
    """A call of the endpoint `path` at `url`. `key` is shell text for the key of a private app, such as `$ROOST_KEY`."""
    method, operation = _operation(path, openapi)
    words = ["curl"]
    if _streams(operation):
        words.append("-N")
    if method not in ("get", "post"):
        words += ["-X", method.upper()]
    words.append(shlex.quote(url))
    if key:
        # In double quotes, because the shell has to put the key in.
        words.append(f'-H "Authorization: Key {key}"')
    content = (operation.get("requestBody") or {}).get("content") or {}
    if "application/json" in content:
        body = example(content["application/json"].get("schema") or {}, openapi, content["application/json"])
        words += ["-H", "'Content-Type: application/json'", "-d", _quoted(json.dumps(body, ensure_ascii=False))]
    elif content:
        kind = next(iter(content))
        words += ["-H", shlex.quote(f"Content-Type: {kind}"), "--data-binary", "@FILE"]
    elif method == "post":
        words += ["-X", "POST"]
    return " ".join(words)


def _quoted(text: str) -> str:
    """In single quotes, as people write it (shlex would write '"'"' for an apostrophe)."""
    return "'" + text.replace("'", "'\\''") + "'"


def is_websocket(path: str, spec: Schema) -> bool:
    """Whether the spec declares `path` as a websocket, which curl cannot call."""
    return any(endpoint.get("path") == path and endpoint.get("is_websocket") for endpoint in spec.get("endpoints") or ())


def example(schema: Schema, openapi: Schema, media: Schema | None = None) -> Any:
    """A value that the schema accepts: the author's examples and defaults first, else the smallest one."""
    for given in ((media or {}).get("examples"), [(media or {})["example"]] if "example" in (media or {}) else None):
        if given:
            first = next(iter(given.values())) if isinstance(given, Mapping) else given[0]
            return first.get("value", first) if isinstance(given, Mapping) and isinstance(first, Mapping) else first
    return _value(schema, openapi, 0)


def _value(schema: Schema, openapi: Schema, depth: int) -> Any:
    schema = _resolved(schema, openapi)
    said, value = _said(schema)
    if said:
        return value
    for choice in ("anyOf", "oneOf"):
        options = [option for option in schema.get(choice) or () if option.get("type") != "null"]
        if options:
            return _value(options[0], openapi, depth + 1) if depth < DEEPEST else None
    if schema.get("allOf"):
        return _object(_merged(schema, openapi), openapi, depth)
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            return _object(schema, openapi, depth)
        case None if "properties" in schema:
            return _object(schema, openapi, depth)
        case "array":
            wanted = min(schema.get("minItems", 0), 8)
            prefix = [_value(item, openapi, depth + 1) for item in schema.get("prefixItems") or ()] if depth < DEEPEST else []
            rest = [_value(schema.get("items") or {}, openapi, depth + 1)] * (wanted - len(prefix)) if depth < DEEPEST else []
            return [*prefix, *rest]
        case "integer":
            return _number(schema, 1)
        case "number":
            return _number(schema, 1.0)
        case "boolean":
            return False
        case "null":
            return None
        case "string":
            text = FORMATS.get(str(schema.get("format")), "string")
            text = text.ljust(schema.get("minLength", 0), "x")
            return text[: schema["maxLength"]] if "maxLength" in schema else text
        case _:
            # No schema: anything goes, and most handlers of "any JSON" want an object.
            return {}


def _object(schema: Schema, openapi: Schema, depth: int) -> dict[str, Any]:
    """Required properties, and those for which the author gave an example; the rest has defaults."""
    required = set(schema.get("required") or ())
    properties: Schema = schema.get("properties") or {}
    if depth >= DEEPEST:
        return {}
    chosen = {name: item for name, item in properties.items() if name in required or _has_example(_resolved(item, openapi))}
    return {name: _value(item, openapi, depth + 1) for name, item in chosen.items()}


def _said(schema: Schema) -> tuple[bool, Any]:
    """(True, value) if the schema itself names a value."""
    if schema.get("examples"):
        return True, schema["examples"][0]
    for name in ("example", "default", "const"):
        if name in schema:
            return True, schema[name]
    return (True, schema["enum"][0]) if schema.get("enum") else (False, None)


def _has_example(schema: Schema) -> bool:
    return bool(schema.get("examples")) or "example" in schema


def _number(schema: Schema, step: float) -> float:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + step
        # Between 0 and 1 exclusive, one step up is already out.
        if "exclusiveMaximum" in schema and low >= schema["exclusiveMaximum"]:
            low = (schema["exclusiveMinimum"] + schema["exclusiveMaximum"]) / 2
        elif high is not None and low > high:
            low = high
    value = low if low is not None else min(step, high) if high is not None else step
    if low is None and "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        value = schema["exclusiveMaximum"] - step
    multiple = schema.get("multipleOf")
    if multiple and value % multiple:
        value = (value // multiple + 1) * multiple
    return int(value) if isinstance(step, int) else value


def _merged(schema: Schema, openapi: Schema) -> dict[str, Any]:
    properties: dict[str, Any] = dict(schema.get("properties") or {})
    required: list[str] = list(schema.get("required") or ())
    for part in schema.get("allOf") or ():
        part = _resolved(part, openapi)
        properties.update(part.get("properties") or {})
        required += part.get("required") or ()
    return {"properties": properties, "required": required}


def _resolved(schema: Schema, openapi: Schema) -> Schema:
    """The schema that a `$ref` points to, with what stands beside the `$ref` laid over it."""
    seen = 0
    while "$ref" in schema and seen < DEEPEST:
        found: Any = openapi
        for name in str(schema["$ref"]).removeprefix("#/").split("/"):
            found = found.get(name) or {}
        schema = {**found, **{name: value for name, value in schema.items() if name != "$ref"}}
        seen += 1
    return schema


def _operation(path: str, openapi: Schema) -> tuple[str, Schema]:
    operations: Schema = (openapi.get("paths") or {}).get(path) or {}
    for method in ("post", "get", "put", "patch", "delete"):
        if method in operations:
            return method, operations[method]
    return "post", {"requestBody": {"content": {"application/json": {}}}}


def _streams(operation: Schema) -> bool:
    answers = (operation.get("responses") or {}).values()
    return any("text/event-stream" in (answer.get("content") or {}) for answer in answers)
