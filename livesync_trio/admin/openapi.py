"""The OpenAPI document, made from the same table as the routes."""

from collections.abc import Iterable
from typing import Any, Final

from livesync_trio.admin import schemas
from livesync_trio.admin.declaring import JSON, Parameter, Route
from livesync_trio.errors import RULES, Kind
from livesync_trio.version import VERSION

_REFUSALS: Final = (
    Kind.BAD_PARAMETER,
    Kind.UNAUTHENTICATED,
    Kind.NO_SUCH_STORE,
    Kind.TOO_FAST,
    Kind.STORAGE_UNAVAILABLE,
)
"""One kind for each status that any route may answer with; the others are in docs/errors.md."""


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document, as JSON values."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "livesync control plane",
            "version": VERSION,
            "summary": "What operators ask of a running sync server. See docs/control-plane.md.",
        },
        "security": [{"adminSecret": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "adminSecret": {"type": "http", "scheme": "bearer", "description": "The value of ADMIN_SECRET."}
            },
            "schemas": {"Error": schemas.ERROR},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    content = {route.content_type: {"schema": route.answers or schemas.TEXT}}
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.meaning,
        "parameters": [_parameter(parameter) for parameter in route.parameters],
        "responses": {"200": {"description": "As asked.", "content": content}} | _refusals(),
    }
    if route.body is not None:
        members = {name: {"type": kind} for name, kind in route.body.items()}
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schemas.thing(members)}}}
    return operation


def _refusals() -> dict[str, Any]:
    error = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(RULES[kind].http_status): {"description": RULES[kind].meaning, "content": error} for kind in _REFUSALS}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if parameter.kind == "number":
        schema = {"type": "integer", "minimum": parameter.low}
        if parameter.high is not None:
            schema["maximum"] = parameter.high
        if parameter.default is not None:
            schema["default"] = parameter.default
    elif parameter.kind == "time":
        schema["format"] = "date-time"
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.meaning,
        "required": parameter.required,
        "schema": schema,
    }
