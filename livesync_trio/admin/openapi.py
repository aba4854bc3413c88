"""The OpenAPI document, made from the same table as the routes."""

from collections.abc import Iterable
from typing import Any, Final

from livesync_trio import openapi as parts
from livesync_trio.admin.declaring import JSON, Answer, Route
from livesync_trio.admin.gate import HOST, PLAIN
from livesync_trio.errors import RULES, Kind
from livesync_trio.version import VERSION

_REFUSALS: Final = (
    Kind.BAD_PARAMETER,
    Kind.UNAUTHENTICATED,
    Kind.ORIGIN_REFUSED,
    Kind.NOT_FOUND,
    Kind.METHOD_NOT_ALLOWED,
    Kind.REQUEST_TIMEOUT,
    Kind.BODY_TOO_BIG,
    Kind.TOO_FAST,
    Kind.INTERNAL,
    Kind.STORAGE_UNAVAILABLE,
)
"""One kind for each status that any route may answer with; the others are in docs/errors.md."""


class Fault(Answer, frozen=True):
    """What a refusal tells: its kind, and what to do."""

    code: str
    message: str


class Error(Answer, frozen=True):
    """A refusal."""

    error: Fault


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document, as JSON values."""
    routes = list(routes)
    types = [Error, *(kind for route in routes for kind in (route.takes, route.answers) if kind is not None)]
    schemas = parts.schemas(types)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "livesync control plane",
            "version": VERSION,
            "summary": "What operators ask of a running sync server. See docs/control-plane.md.",
            "description": "`x-needs` of an operation is what one must be allowed to: see docs/console.md.",
        },
        "security": [{"adminSecret": []}, {"session": [], "csrf": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "adminSecret": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The value of ADMIN_SECRET; with the console, also a token for programs.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": PLAIN,
                    "description": f"With the console: what `login` sets. Behind TLS it is called {HOST}.",
                },
                "csrf": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-CSRF-Token",
                    "description": "With a session, for a POST: `csrf` of `whoAmI`.",
                },
            },
            "schemas": schemas,
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    answer = {"type": "string"} if route.content_type != JSON else {"type": "object"}
    if route.answers is not None:
        answer = parts.ref(route.answers)
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.meaning,
        "responses": {"200": {"description": "As asked.", "content": {route.content_type: {"schema": answer}}}}
        | parts.refusals(((kind, RULES[kind].http_status) for kind in _REFUSALS), JSON, Error),
        "x-needs": None if route.needs is None else str(route.needs),
    }
    if route.needs is None:
        operation["security"] = []
    if route.method == "POST":
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": parts.ref(route.takes)}}}
    else:
        operation["parameters"] = parts.parameters(schemas[route.takes.__name__])
    return operation
