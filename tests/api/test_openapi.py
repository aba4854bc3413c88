"""The OpenAPI document says what is served, and what is served keeps to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import validate

from livesync_trio.api.openapi import document
from livesync_trio.api.routes import ROUTES
from tests.api.serving import api
from tests.conformance.servers import ServerProcess

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "http-api.md").read_text(encoding="utf-8")
EXAMPLES = 8
"""For each endpoint; more with `schemathesis run http://127.0.0.1:8000/v1/openapi.json`."""
NOT_HELD = ("unsupported_method", "positive_data_acceptance")
"""Checks left out: one asks for other methods, as test_hostile does; some texts (positions, moments, printable ids)
are narrower than a schema says."""


async def test_the_document_is_valid_and_is_the_one_that_is_served() -> None:
    async with api() as program:
        served = (await program.http.get("/v1/openapi.json")).json()
    validate(served)
    assert served == document(ROUTES)


def test_no_refusal_is_told_as_an_answer() -> None:
    for operations in document(ROUTES)["paths"].values():
        for operation in operations.values():
            answers = {status: answer["description"] for status, answer in operation["responses"].items()}
            assert {text for status, text in answers.items() if status < "300"} <= {
                "As asked.",
                "The store had all of it already.",
            }
            assert answers.get("409", "reset").count("reset")


def test_everything_is_explained_in_the_docs() -> None:
    for route in ROUTES:
        for field in route.takes.__struct_encode_fields__:
            assert f"`{field}`" in PAGE or f"?{field}=" in PAGE, (route.path, field)
    for word in ("Idempotency-Key", "If-Match", "Last-Event-ID", "If-None-Match", "application/x-ndjson"):
        assert word in PAGE
    assert re.search(r"\b412\b", PAGE)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("schemathesis")
    server = ServerProcess(directory, f"sqlite:///{directory}/live.db", {"LIVESYNC_API": "true"})
    server.start()
    yield server.url
    server.stop()


OPERATIONS = sorted((route.method, route.path) for route in ROUTES)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_is_served_keeps_to_the_document(url: str, method: str, path: str) -> None:
    """Requests made from the document, right and wrong ones, are answered as it says."""
    schema = schemathesis.openapi.from_dict({**document(ROUTES), "servers": [{"url": url}]})
    operation = schema[path][method]

    @settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def run(case: Any) -> None:
        if case.query and "wait" in case.query:
            case.query["wait"] = 0
        headers = {**(case.headers or {}), "accept": "application/json"}
        case.headers = {name: value for name, value in headers.items() if value.isascii() and value.isprintable()}
        response = case.call(base_url=url, timeout=60)
        left_out = [schemathesis.checks.CHECKS.get_one(name) for name in NOT_HELD]
        case.validate_response(response, excluded_checks=left_out)

    run()
