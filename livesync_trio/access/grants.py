"""Which stores the claims of a token give. Pure.

A store is named exactly, or by a prefix that ends in `*`. What a claim holds, and what a template becomes with its
claims put in, is compared byte for byte, as store ids are everywhere.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from livesync_trio.config import Config

_CLAIM: Final = re.compile(r"\{([^{}]*)\}")
_ANY_REST: Final = "*"


@attrs.frozen
class Grants:
    """How claims are read.

    Attributes:
        write_claim: claim with stores to read and write.
        read_claim: claim with stores to read.
        write_templates: stores that every token may read and write; `{org}` stands for the claim `org`.
        read_templates: the same, to read.
    """

    write_claim: str = "stores"
    read_claim: str = "stores_read"
    write_templates: tuple[str, ...] = ()
    read_templates: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Config) -> "Grants":
        """How a configuration says that claims are read."""
        return cls(config.jwt_stores_claim, config.jwt_read_stores_claim, config.jwt_stores, config.jwt_read_stores)

    def may_push(self, claims: Mapping[str, Any], store_id: str) -> bool:
        """Whether the claims let their owner write to the store, and so read it too."""
        return _named(claims.get(self.write_claim), store_id) or any(
            _fits(template, claims, store_id) for template in self.write_templates
        )

    def may_pull(self, claims: Mapping[str, Any], store_id: str) -> bool:
        """Whether the claims let their owner read the store."""
        return (
            self.may_push(claims, store_id)
            or _named(claims.get(self.read_claim), store_id)
            or any(_fits(template, claims, store_id) for template in self.read_templates)
        )

    def patterns(self, claims: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """The stores that claims give, as names and prefixes that end in `*`: to read and write, and to read only."""
        writes = [*_texts(claims.get(self.write_claim)), *_all_filled(self.write_templates, claims)]
        reads = [*_texts(claims.get(self.read_claim)), *_all_filled(self.read_templates, claims)]
        return writes, [each for each in reads if each not in writes]


def _all_filled(templates: tuple[str, ...], claims: Mapping[str, Any]) -> Iterator[str]:
    for template in templates:
        yield from _filled(template, claims)


def _named(claim: object, store_id: str) -> bool:
    """Whether a claim, one text or a list of them, names the store. What has any other shape names nothing."""
    return any(_matches(text, store_id) for text in _texts(claim))


def _matches(pattern: str, store_id: str) -> bool:
    if pattern.endswith(_ANY_REST):
        return store_id.startswith(pattern.removesuffix(_ANY_REST))
    return pattern == store_id


def _fits(template: str, claims: Mapping[str, Any], store_id: str) -> bool:
    """Whether a template, with the claims put in, names the store.

    The claims are put in as they are: a `*` inside one stands for itself only. A claim that is missing or empty makes
    the template name nothing, or a prefix would shrink to one that fits others' stores.
    """
    prefix = template.endswith(_ANY_REST)
    wanted = template.removesuffix(_ANY_REST) if prefix else template
    return any(store_id.startswith(filled) if prefix else store_id == filled for filled in _filled(wanted, claims))


def _filled(template: str, claims: Mapping[str, Any]) -> Iterator[str]:
    """A template with its first claim put in, each of its values in turn, and so on with the rest."""
    found = _CLAIM.search(template)
    if found is None:
        yield template
        return
    for text in _texts(claims.get(found[1])):
        if text:
            for rest in _filled(template[found.end() :], claims):
                yield template[: found.start()] + text + rest


def _texts(claim: object) -> Iterator[str]:
    match claim:
        case str():
            yield claim
        case bool():
            return
        case int():
            yield str(claim)
        case list():
            for each in claim:
                match each:
                    case str() | {"database_name": str()}:  # a workspace of the FastAPI server
                        yield each if isinstance(each, str) else each["database_name"]
