"""Which stores claims give (`transport.grants`): exact names, prefixes, templates; and never a neighbour's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.access.grants import Grants
from livesync_trio.config.checks import template_claims

NAMES = st.text(max_size=12)
PLAIN = Grants()


@pytest.mark.parametrize(
    ("claim", "store", "allowed"),
    [
        (["notes"], "notes", True),
        ("notes", "notes", True),
        (["notes"], "notes2", False),
        (["notes"], "note", False),
        (["notes"], "Notes", False),
        (["notes"], "", False),
        (["caf\u00e9"], "cafe\u0301", False),
        (["a-b"], "a_b", False),
        (["team-1/*"], "team-1/x", True),
        (["team-1/*"], "team-1/", True),
        (["team-1/*"], "team-1", False),
        (["team-1/*"], "team-10/x", False),
        (["team-1*"], "team-10", True),  # a prefix is a prefix: the operator ends it where it should end
        (["*"], "anything", True),
        (["a*b"], "aXb", False),
        (["a*b"], "a*b", True),
        (["x", "y"], "y", True),
        ([["y"]], "y", False),
        ([7], "7", False),
        ({"notes": True}, "notes", False),
        (None, "None", False),
        (True, "True", False),
        ([], "notes", False),
        ("", "", True),  # no such store can be asked for (SPEC 3.1: empty ids are refused)
    ],
)
def test_what_a_claim_names(claim: Any, store: str, allowed: bool) -> None:
    assert PLAIN.may_push({"stores": claim}, store) is allowed
    assert PLAIN.may_pull({"stores": claim}, store) is allowed
    assert PLAIN.may_pull({"stores_read": claim}, store) is allowed
    assert not PLAIN.may_push({"stores_read": claim}, store)
    assert not PLAIN.may_pull({"other": claim}, store)


@pytest.mark.parametrize(
    ("template", "claims", "store", "allowed"),
    [
        ("team-{org}", {"org": "acme"}, "team-acme", True),
        ("team-{org}", {"org": "acme"}, "team-acme2", False),
        ("team-{org}", {"org": "*"}, "team-acme", False),
        ("team-{org}", {"org": "*"}, "team-*", True),
        ("team-{org}", {"org": "*"}, "team-*x", False),
        ("team-{org}", {}, "team-", False),
        ("team-{org}", {"org": ""}, "team-", False),
        ("team-{org}", {"org": None}, "team-None", False),
        ("team-{org}", {"org": True}, "team-True", False),
        ("team-{org}", {"org": 7}, "team-7", True),
        ("team-{org}", {"org": ["a", "b"]}, "team-b", True),
        ("team-{org}", {"org": ["a", "b"]}, "team-c", False),
        ("team-{org}/*", {"org": "acme"}, "team-acme/x", True),
        ("team-{org}/*", {"org": "acme"}, "team-acmeX/x", False),
        ("team-{org}/*", {"org": ""}, "team-/x", False),
        ("{org}*", {"org": "*"}, "anything", False),
        ("{org}*", {"org": ""}, "anything", False),
        ("{org}/{sub}", {"org": ["a", "b"], "sub": "ann"}, "b/ann", True),
        ("{org}/{sub}", {"org": "{sub}", "sub": "ann"}, "ann/ann", False),  # put in once, not again
        ("{org}/{sub}", {"org": "{sub}", "sub": "ann"}, "{sub}/ann", True),
        ("public", {}, "public", True),
        ("{https://x.example/org}", {"https://x.example/org": "a"}, "a", True),
    ],
)
def test_what_a_template_names(template: str, claims: dict[str, Any], store: str, allowed: bool) -> None:
    assert Grants(write_templates=(template,)).may_push(claims, store) is allowed
    readers = Grants(read_templates=(template,))
    assert readers.may_pull(claims, store) is allowed
    assert not readers.may_push(claims, store)


@given(NAMES, NAMES)
def test_an_exact_claim_never_gives_another_store(claim: str, store: str) -> None:
    if not claim.endswith("*"):
        assert PLAIN.may_push({"stores": [claim]}, store) is (claim == store)


@given(NAMES, NAMES)
def test_a_template_gives_each_tenant_its_own_store_only(one: str, other: str) -> None:
    grants = Grants(write_templates=("team-{org}",))
    assert grants.may_push({"org": one}, f"team-{other}") is (one == other and one != "")


@given(NAMES.filter(lambda name: "/" not in name), NAMES.filter(lambda name: "/" not in name), NAMES)
def test_a_prefix_gives_nothing_below_another_tenant(one: str, other: str, rest: str) -> None:
    grants = Grants(write_templates=("{org}/*",))
    assert grants.may_push({"org": one}, f"{other}/{rest}") is (one == other and one != "")


def test_without_claims_nothing_is_given() -> None:
    assert not PLAIN.may_pull({}, "notes")
    assert not Grants(write_templates=("{org}",), read_templates=("{org}",)).may_pull({"sub": "ann"}, "notes")


@pytest.mark.parametrize("template", ["{", "a}", "{}", "a{b", "*x", "{a}*/b", "{a{b}}"])
def test_what_is_no_template_is_not_configured(template: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        template_claims(template)
