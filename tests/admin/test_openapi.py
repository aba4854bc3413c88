"""The OpenAPI document, the routes and the page of documentation say the same, and real answers keep to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from livesync_trio.admin.declaring import Route
from livesync_trio.admin.openapi import document
from livesync_trio.admin.routes import ROUTES
from tests.bad_input.clients import event, pull

from .stage import STORE, Stage, running

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "control-plane.md").read_text(encoding="utf-8")


def schema_of(path: str, method: str = "get", status: str = "200") -> Any:
    content = document(ROUTES)["paths"][path][method]["responses"][status]["content"]
    return next(iter(content.values()))["schema"]


def check(answer: Any, schema: Any) -> None:
    """Hold an answer against its schema."""
    OAS31Validator({**schema, "components": document(ROUTES)["components"]}).validate(answer)


async def test_the_document_is_valid_and_is_the_one_that_is_served(stage: Stage) -> None:
    served = await stage.get("/api/v1/openapi.json")
    validate(served)
    assert served == document(ROUTES)


def test_every_status_that_an_answer_may_have_is_in_the_document() -> None:
    for methods in document(ROUTES)["paths"].values():
        for operation in methods.values():
            assert {"200", "400", "401", "403", "404", "405", "408", "413", "429", "500", "503"} == set(
                operation["responses"]
            )


async def test_every_route_of_the_app_is_in_the_document_and_nothing_else(stage: Stage) -> None:
    assert stage.server.control is not None
    rules = {
        (method, rule.rule)
        for rule in stage.server.control.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    told = {(method.upper(), path) for path, methods in document(ROUTES)["paths"].items() for method in methods}
    assert rules == told


def test_every_route_and_parameter_is_explained_in_the_docs() -> None:
    for route in ROUTES:
        assert f"`{route.method} {route.path}`" in PAGE, route.path
        section = PAGE.split(f"`{route.method} {route.path}`")[1].split("\n### ")[0]
        for name in route.takes.__struct_encode_fields__:
            assert f"`{name}`" in section, f"{route.path}: {name}"
    told = set(re.findall(r"^### `(?:GET|POST) (/[\w/.]+)`", PAGE, re.MULTILINE))
    assert told == {route.path for route in ROUTES}


def test_every_member_of_every_answer_is_explained_in_the_docs() -> None:
    for route in ROUTES:
        section = PAGE.split(f"`{route.method} {route.path}`")[1].split("\n### ")[0]
        _, schemas = msgspec.json.schema_components([route.answers] if route.answers else [])
        for name in {name for schema in schemas.values() for name in schema["properties"]}:
            assert f"`{name}`" in section, f"{route.path}: {name}"


OFF = ("/api/v1/backups", "/api/v1/feed")
"""What this server has not; `tests/console` holds the answers of a server that has."""


def required(route: Route) -> set[str]:
    return {field.name for field in msgspec.structs.fields(route.takes) if field.required}


async def test_real_answers_keep_to_the_document() -> None:
    async with running(console=True) as stage:
        await _real_answers(stage)


async def _real_answers(stage: Stage) -> None:
    client = await stage.client()
    await client.push(event(1, 0, {"n": [1]}))
    await client.send(pull("1", STORE, live=True))
    await client.receive()
    made = {"id": "made", "url": "http://localhost:9/", "secret": f"whsec_{'c2VjcmV0' * 4}"}
    check((await stage.post("/api/v1/webhooks/define", **made)).json(), schema_of("/api/v1/webhooks/define", "post"))
    tested = await stage.post("/api/v1/webhooks/test", webhook="made")
    check(tested.json(), schema_of("/api/v1/webhooks/test", "post"))
    for route in ROUTES:
        if route.method == "GET" and route.answers is not None and not route.console and route.path not in OFF:
            query = {"storeId": STORE} if "store_id" in required(route) else {}
            if "webhook" in required(route):
                query = {"webhook": "made"}
            check(await stage.get(route.path, **query), schema_of(route.path))
    number = (await stage.get("/api/v1/connections"))["connections"][0]["connectionId"]
    closed = await stage.post("/api/v1/connections/close", connectionId=number, storeId=STORE)
    check(closed.json(), schema_of("/api/v1/connections/close", "post"))
    closed = await stage.post("/api/v1/connections/close/many", storeId="another")
    check(closed.json(), schema_of("/api/v1/connections/close/many", "post"))
    verbs: dict[str, dict[str, object]] = {
        "erase": {"events": [1], "args": None},
        "rewind": {"to": 0},
        "reset": {},
        "freeze": {"frozen": False},
        "rename": {"to": "new"},
    }
    for verb, members in {**verbs, "delete": {}}.items():
        store = "new" if verb == "delete" else STORE
        answer = await stage.post(f"/api/v1/store/{verb}", storeId=store, confirm=store, **members)
        check(answer.json(), schema_of(f"/api/v1/store/{verb}", "post"))
    refused = await stage.http.get("/api/v1/store", params={"storeId": "nowhere"})
    check(refused.json(), schema_of("/api/v1/store", status="404"))
