"""Parts of an OpenAPI document, made from structs and from the table of refusals."""

from collections.abc import Iterable
from typing import Any

import msgspec

from livesync_trio.errors import RULES, Kind


def schemas(types: Iterable[type[Any]]) -> dict[str, Any]:
    """The `components.schemas` of structs, by name."""
    _, found = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for schema in found.values():
        schema.pop("description", None)  # the docstring of the struct, written for who reads the code
    return found


def parameters(schema: dict[str, Any], where: str = "query") -> list[dict[str, Any]]:
    """The members of a struct's schema as parameters. `where`: `query`, `header` or `path`."""
    return [
        {
            "name": name,
            "in": where,
            "description": member.get("description", ""),
            "required": name in schema["required"],
            "schema": {key: value for key, value in member.items() if key != "description"},
        }
        for name, member in schema["properties"].items()
    ]


def refusals(kinds: Iterable[Kind], content_type: str, told: type[Any]) -> dict[str, Any]:
    """Responses for kinds of refusal, one for each status; `told`: the struct of their body."""
    return {
        str(RULES[kind].http_status): {
            "description": RULES[kind].meaning,
            "content": {content_type: {"schema": ref(told)}},
        }
        for kind in kinds
    }


def ref(kind: type[Any]) -> dict[str, str]:
    """A struct, by its name."""
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
