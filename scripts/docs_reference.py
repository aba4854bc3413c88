"""Pages of the site that are made: the reference of both HTTP interfaces, from their OpenAPI documents, and llms.txt.

The documents are those that a server gives, so a page cannot say anything else than the server does. Nothing of it is
fetched from another host.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from livesync_trio.admin.openapi import document as control_plane
from livesync_trio.admin.routes import ROUTES as CONTROL_PLANE
from livesync_trio.api.openapi import document as http_api
from livesync_trio.api.routes import ROUTES as HTTP_API

_SCHEMAS: Final = "#/components/schemas/"


@attrs.frozen
class Reference:
    """One page.

    Attributes:
        page: its place on the site, and that of the document, without the endings.
        guide: the page that explains how it is used.
        title: its heading.
        intro: what stands below it, in Markdown.
        base: the path that all of its paths begin with.
        document: the OpenAPI document.
    """

    page: str
    guide: str
    title: str
    intro: str
    base: str
    document: Mapping[str, Any]

    def markdown(self) -> str:
        """The page."""
        return "\n".join(_page(self)) + "\n"


def references() -> list[Reference]:
    """All of them."""
    return [
        Reference(
            "control-plane-reference",
            "control-plane.md",
            "Control plane: reference (OpenAPI)",
            "Every request that the [control plane](control-plane.md) understands. A running server gives the same as "
            "an OpenAPI document at `GET /api/v1/openapi.json`.",
            "/api/v1",
            control_plane(CONTROL_PLANE),
        ),
        Reference(
            "http-api-reference",
            "http-api.md",
            "HTTP API: reference (OpenAPI)",
            "Every request that the [HTTP API](http-api.md) understands. A running server gives the same as an OpenAPI "
            "document at `GET /v1/openapi.json`.",
            "/v1",
            http_api(HTTP_API),
        ),
    ]


def _page(reference: Reference) -> Iterator[str]:
    document = reference.document
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    common = set.intersection(*(_refusals(operation) for _, _, operation in operations))
    yield f"# {reference.title}\n"
    yield f"{reference.intro} Download it: [{reference.page}.json]({reference.page}.json).\n"
    yield "## Who may ask\n"
    yield from _table(
        ("name", "how", "meaning"),
        [
            (f"`{name}`", _how(scheme), scheme.get("description", ""))
            for name, scheme in document["components"]["securitySchemes"].items()
        ],
    )
    yield "## Refusals that any request may get\n"
    yield from _table(("status", "meaning"), [(f"`{status}`", meaning) for status, meaning in sorted(common)])
    group = None
    for path, method, operation in sorted(operations, key=lambda one: _group(one[0], reference.base)):
        found = _group(path, reference.base)
        if found != group:
            group = found
            yield f"## {found}\n"
        yield from _operation(path, method, operation, common)
    yield "## Objects\n"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield from _object(name, schema)


def _group(path: str, base: str) -> str:
    return path.removeprefix(base).strip("/").partition("/")[0]


def _how(scheme: Mapping[str, Any]) -> str:
    if scheme["type"] == "http":
        return f"`Authorization: {scheme['scheme'].capitalize()} …`"
    return f"{scheme.get('in', scheme['type'])} `{scheme.get('name', '')}`"


def _refusals(operation: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(status, told["description"]) for status, told in operation["responses"].items() if int(status) >= 400}


def _operation(path: str, method: str, operation: Mapping[str, Any], common: set[tuple[str, str]]) -> Iterator[str]:
    yield f"### {method.upper()} {path} {{#{operation['operationId']}}}\n"
    yield f"{_prose(operation['summary'])}\n"
    if operation.get("x-needs"):
        yield f"Needs the permission `{operation['x-needs']}`.\n"
    if operation.get("security") == []:
        yield "Needs no credentials.\n"
    if operation.get("parameters"):
        yield from _table(
            ("parameter", "in", "type", "meaning"),
            [
                (_named(one["name"], one.get("required")), one["in"], _type(one["schema"]), one.get("description", ""))
                for one in operation["parameters"]
            ],
        )
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"Body: {_type(body['schema'])}, `{kind}`.\n"
    for status, told in operation["responses"].items():
        if int(status) < 400:
            for kind, body in told.get("content", {}).items():
                yield f"Answer `{status}`: {_type(body.get('schema', {}))}, `{kind}`.\n"
    others = sorted(_refusals(operation) - common)
    if others:
        yield from _table(("refused with", "meaning"), [(f"`{status}`", meaning) for status, meaning in others])


def _object(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {name} {{#schema-{name.lower()}}}\n"
    if schema.get("description"):
        yield f"{_prose(schema['description'])}\n"
    members = schema.get("properties")
    if members is None:
        yield f"{_type(schema)}\n"
    elif members:
        required = set(schema.get("required", ()))
        yield from _table(
            ("member", "type", "meaning"),
            [
                (_named(member, member in required), _type(of), of.get("description", ""))
                for member, of in members.items()
            ],
        )
    else:
        yield "No members.\n"


def _named(name: str, required: object) -> str:
    return f"`{name}`" if required else f"`{name}`, optional"


def _type(schema: Mapping[str, Any]) -> str:
    """What a value may be, in Markdown."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_SCHEMAS)
        return f"[{name}](#schema-{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[several]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type")
    if kind == "array":
        return f"array of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(kind) if kind else "any JSON"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_prose(cell).replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def _prose(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;")


# --- llms.txt --------------------------------------------------------------------------------------------------------

_NOT_PROSE: Final = ("#", "|", "```", "![", ">", "<", "- ", "* ", "---", "    ")


def llms_txt(name: str, about: str, groups: Sequence[tuple[str, Sequence[tuple[str, str, str]]]]) -> str:
    """The site for programs that read: what it is about, and where what is.

    Args:
        name: of the site.
        about: one sentence.
        groups: a heading each, with the pages below it: title, address, Markdown.
    """
    lines = [f"# {name}", "", f"> {about}", ""]
    for heading, pages in groups:
        lines += [f"## {heading}", ""]
        for title, address, markdown in pages:
            sentence = first_sentence(markdown)
            lines.append(f"- [{title}]({address}){f': {sentence}' if sentence else ''}")
        lines.append("")
    return "\n".join(lines)


def first_sentence(markdown: str) -> str:
    """The first sentence of a page that is prose, without links and emphasis; empty where there is none."""
    for paragraph in re.split(r"\n\s*\n", markdown):
        if paragraph.startswith(_NOT_PROSE) or not paragraph.strip():
            continue
        text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split())).replace("**", "")
        return re.split(r"(?<=[.!?:]) (?=[A-Z`])", text, maxsplit=1)[0].rstrip(":")
    return ""
