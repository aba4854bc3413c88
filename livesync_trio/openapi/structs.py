"""Requests and answers: the reading of a request, the JSON of an answer and the OpenAPI document come from these."""

import msgspec


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What may be asked: the query of a GET, the JSON body of a POST. Texts that are empty were not given."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A JSON object with exactly these members."""


def camel(name: str) -> str:
    """A name of ours as it is on the wire."""
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))
