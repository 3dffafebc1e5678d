"""The OpenAPI document of a class, made on the author's side; it travels as JSON (spec: app-class.md §1.6)."""

from __future__ import annotations

from typing import Any

from roost.sdk import endpoint
from roost.sdk.app import App

FAILED = "Failed to generate OpenAPI metadata"


class OpenAPIError(ValueError):
    """The class cannot be described, so it could not be served either."""


def build_openapi(cls: type[App]) -> dict[str, Any]:
    """OpenAPI 3.1.0 of the class's endpoints, with the order of paths and properties marked for user interfaces.

    Raises OpenAPIError, whose text begins with "Failed to generate OpenAPI metadata" and says why.
    """
    from roost.sdk.annotations import resolve_annotations

    try:
        routes = endpoint.collect(cls)
        if not routes:
            raise ValueError(f"{cls.__name__} has no endpoint. Mark at least one method with @roost.endpoint('/')")
        resolve_annotations(cls)
        document = cls.__new__(cls)._build_app().openapi()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - an instance only for this; it never serves
    except Exception as error:
        raise OpenAPIError(f"{FAILED} for {cls.__name__}: {error}") from error
    _add_websockets(document, routes)
    _mark_order(document)
    return document


def _add_websockets(document: dict[str, Any], routes: dict[str, endpoint.Route]) -> None:
    for name, route in routes.items():
        if route.is_websocket:
            document.setdefault("paths", {}).setdefault(route.path, {})["x-fal-protocol"] = {"type": "websocket", "operationId": name}


def _mark_order(document: dict[str, Any]) -> None:
    """JSON objects have no order that a reader must keep; these lists do."""
    document["x-fal-order-paths"] = list(document.get("paths", {}))
    for schema in document.get("components", {}).get("schemas", {}).values():
        for part in (schema, *schema.get("allOf", ())):
            if "properties" in part:
                part["x-fal-order-properties"] = list(part["properties"])
