"""The OpenAPI document, made from the same table as the routes."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from livesync_trio import openapi as parts
from livesync_trio.api.declaring import JSON, PROBLEM, Route, status_of
from livesync_trio.api.structs import Problem
from livesync_trio.errors import Kind
from livesync_trio.version import VERSION

_REFUSALS: Final = (
    Kind.BAD_PARAMETER,
    Kind.UNAUTHENTICATED,
    Kind.NOT_ALLOWED,
    Kind.METHOD_NOT_ALLOWED,
    Kind.REQUEST_TIMEOUT,
    Kind.TOO_FAST,
    Kind.INTERNAL,
    Kind.STORAGE_UNAVAILABLE,
)
"""One kind for each status that any route may answer with; the others are in docs/errors.md."""

_STORE_ID: Final = {
    "name": "storeId",
    "in": "path",
    "required": True,
    "description": "The store's name, percent-encoded, slashes as well.",
    "schema": {"type": "string", "minLength": 1},
}


def text(routes: Iterable[Route]) -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(document(routes))


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document, as JSON values."""
    routes = list(routes)
    types: list[Any] = [Problem]
    for route in routes:
        headers = () if route.headers is None else (route.headers,)
        types += [route.takes, *headers, *chain(*route.answers.values(), *route.bodies.values())]
    schemas = parts.schemas(types)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "livesync events",
            "version": VERSION,
            "summary": "Append and read events of a store from any program. See docs/http-api.md.",
        },
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "As LiveStore clients."}},
            "schemas": schemas,
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    own = [_STORE_ID] if "{storeId}" in route.path else []
    own += parts.parameters(schemas[route.takes.__name__])
    if route.headers is not None:
        own += parts.parameters(schemas[route.headers.__name__], "header")
    answer = {
        "description": "As asked.",
        "content": {media: _media(media, kinds) for media, kinds in route.answers.items()},
    }
    responses = {str(route.status): answer}
    if route.method == "POST":
        responses["200"] = {**answer, "description": "The store had all of it already."}
    elif route.headers is not None:
        responses["304"] = {"description": "There is nothing new since that ETag."}
    refused = ((kind, status_of(kind)) for kind in (*_REFUSALS, *route.refusals))
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.meaning,
        "parameters": own,
        "responses": {
            **responses,
            **parts.refusals(refused, PROBLEM, Problem),
        },
    }
    if route.bodies:
        operation["requestBody"] = {
            "required": True,
            "content": {media: _media(media, kinds) for media, kinds in route.bodies.items()},
        }
    return operation


def _media(media: str, kinds: Sequence[type[Any]]) -> dict[str, Any]:
    """What is sent under a media type."""
    refs: list[dict[str, str]] = [parts.ref(kind) for kind in kinds]
    refs = refs or [{"type": "object" if media == JSON else "string"}]
    return {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}
