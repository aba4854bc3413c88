"""Settings that are tables of the TOML file, as capabilities declare them."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import attrs
import pytest

from livesync_trio.config import BadConfig, Secret, load, shown_settings
from livesync_trio.config.declaring import declare, declare_tables, settings_of
from livesync_trio.config.settings import _shown
from livesync_trio.config.sources import Found, look_up


@attrs.frozen
class Hook:
    """As of `[[callbacks]]`."""

    url: str = attrs.field()
    secret: Secret | None = None
    events: tuple[str, ...] = ()
    timeout_s: float = 5.0

    @url.validator
    def _check(self, _: object, value: str) -> None:
        if not value.startswith("https://"):
            raise ValueError("it is not an https URL")


@attrs.frozen
class Access:
    """As of `[feed.access.todos]`."""

    where: str
    claims: Mapping[str, Literal["text", "number"]] = MappingProxyType({})


@attrs.frozen
class Tuning:
    """A table of its own."""

    pages: int = 3


@attrs.frozen(kw_only=True, slots=False)
class Group:
    """What a capability would declare."""

    feed_url: str | None = declare(None, "a URL", "Where.", holds_secret=True)
    feed_access: Mapping[str, Access] = declare_tables(MappingProxyType({}), "tables", "Who sees which rows.")
    feed_tuning: Tuning | None = declare_tables(None, "a table", "Numbers.")  # noqa: RUF009 - makes an attrs field
    callbacks: tuple[Hook, ...] = declare_tables((), "a list of tables", "Who is called.")


MADE = settings_of(Group, "A capability")


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """Where the configuration file of a test goes."""
    return tmp_path / "livesync.toml"


def found(toml: Path, text: str, environ: Mapping[str, str] | None = None) -> Found:
    toml.write_text(text)
    return look_up(MADE, {"config": str(toml)}, environ or {})


def problems(toml: Path, text: str) -> list[str]:
    return [str(one).replace(f" in {toml}", "") for one in found(toml, text).problems]


def test_tables_become_what_they_are_declared_as(toml: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("c0ffee\n")
    result = found(
        toml,
        f"""
        [feed]
        url = "postgresql://h/d"
        [feed.tuning]
        pages = 7
        [feed.access.todos]
        where = "owner = {{sub}}"
        claims = {{ sub = "text" }}
        [feed.access.notes]
        where = "true"
        [[callbacks]]
        url = "https://a.example"
        secret_file = "{secret}"
        events = ["v1.TodoCreated"]
        [[callbacks]]
        url = "https://b.example"
        timeout_s = 1
        """,
    )
    assert result.problems == []
    assert result.values == {
        "feed_url": "postgresql://h/d",
        "feed_tuning": Tuning(7),
        "feed_access": {"todos": Access("owner = {sub}", {"sub": "text"}), "notes": Access("true")},
        "callbacks": (
            Hook("https://a.example", Secret("c0ffee"), ("v1.TodoCreated",)),
            Hook("https://b.example", timeout_s=1.0),
        ),
    }
    assert result.origins["feed_url"] == f"feed.url in {toml}"


def test_every_mistake_is_told_with_its_path(toml: Path) -> None:
    assert sorted(
        problems(
            toml,
            """
            feed_url = "postgresql://a/b"
            [feed]
            url = "postgresql://h/d"
            taccess = 3
            [feed.access]
            todos = "all"
            [feed.access.notes]
            were = "true"
            [feed.access.files]
            where = "true"
            claims = { sub = "txt" }
            [[callbacks]]
            url = "http://a.example"
            [[callbacks]]
            url = 3
            timeout_s = "4"
            secret_file = "/nosuch"
            """,
        )
    ) == sorted(
        [
            "feed.url: feed_url is given too (accepted: one of the two)",
            "feed.taccess: there is no such setting; did you mean feed_access?",
            "feed.access.todos: 'all' is not a table",
            "feed.access.notes.were: there is no such key; did you mean where?",
            "feed.access.notes.where: it is missing",
            "feed.access.files.claims.sub: 'txt' is none of them (accepted: text, number)",
            "callbacks[0]: it is not an https URL",
            "callbacks[1].url: 3 is not a text",
            "callbacks[1].timeout_s: '4' is not a number",
            "callbacks[1].secret_file: the file cannot be read: no such file or directory",
        ]
    )


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[callbacks]\nurl = 'x'", "callbacks: {'url': 'x'} is not a list: write [[…]] above each of its tables"),
        ("feed_access = 3", "feed_access: 3 is not a table"),
        ("feed.tuning = []", "feed.tuning: [] is not a table"),
    ],
)
def test_another_shape_than_declared_is_refused(text: str, wrong: str, toml: Path) -> None:
    (problem,) = problems(toml, text)
    assert problem.startswith(wrong)


def test_a_secret_and_its_file_are_not_given_together_and_never_told(toml: Path) -> None:
    text = "[[callbacks]]\nurl = 'https://a.example'\nsecret = 'c0ffee'\nsecret_file = '/x'"
    assert problems(toml, text) == ["callbacks[0].secret_file: secret is given too"]
    (problem,) = problems(toml, "callbacks = 'c0ffee'".replace("'c0ffee'", "[{ url = 'https://a', secret = 77 }]"))
    assert "77" not in problem


def test_they_have_no_flag_and_no_variable(toml: Path) -> None:
    (callbacks,) = (one for one in MADE if one.name == "callbacks")
    assert callbacks.only_in_file
    assert callbacks.variables == ()
    result = found(toml, "", {"LIVESYNC_WEBHOOKS": "x"})
    assert result.values == {}
    assert any("LIVESYNC_WEBHOOKS is set, but there is no such setting" in remark for remark in result.remarks)


def test_shown_without_secrets() -> None:
    value: Any = (Hook("https://u:p@a.example", Secret("c0ffee")),)
    assert _shown(value) == [
        {"url": "https://u:***@a.example", "secret": "***", "events": [], "timeout_s": 5.0},
    ]
    assert _shown({"todos": Access("true")}) == {"todos": {"where": "true", "claims": {}}}


def test_settings_with_one_beginning_may_stand_in_one_table(toml: Path) -> None:
    toml.write_text("[admin]\nport = 9100\norigins = ['https://a.example']\n[jwt]\nissuer = 'me'\n")
    config = load({"config": str(toml)}, {})
    assert (config.admin_port, config.admin_origins, config.jwt_issuer) == (9100, ("https://a.example",), "me")
    assert config.given("admin_port") == f"9100 (given by admin.port in {toml})"
    toml.write_text("admin_port = 1\n[admin]\nport = 9100\nprot = 2\n")
    with pytest.raises(BadConfig, match=r"admin_port in .* is given too(.|\n)*did you mean admin_port"):
        load({"config": str(toml)}, {})


# --- the webhooks ----------------------------------------------------------------------------------------------------

SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cyBvbmx5ISEhISE="


def test_webhooks_are_read_and_shown_without_what_is_secret(toml: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    toml.write_text(
        f"""
        [[webhooks]]
        id = "search"
        url = "https://a.example/hook?token=c0ffee"
        secret_file = "{secret}"
        stores = ["team-*"]
        headers = {{ authorization = "Bearer c0ffee" }}
        [[webhooks]]
        id = "mail"
        url = "https://b.example/"
        secret = "{SECRET}"
        start = "beginning"
        """
    )
    config = load({"config": str(toml)}, {})
    search, mail = config.webhooks
    assert search.secret == mail.secret == Secret(SECRET)
    assert search.wants_store("team-a")
    assert not search.wants_store("a")
    said = repr(config) + str(shown_settings(config))
    assert "search" in said
    assert "c0ffee" not in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("id = 'x'\nurl = 'https://a.example/'", r"webhooks\[0\]\.secret.*it is missing"),
        (f"id = 'x'\nurl = 'http://a.example/'\nsecret = '{SECRET}'", r"webhooks\[0\].*url: http is only for"),
        ("id = 'x'\nurl = 'https://a.example/'\nsecret = 'whsec_YQ=='", r"webhooks\[0\].*secret: it is not whsec_"),
        (f"id = 'x'\nurl = 'https://a.example/'\nsecret = '{SECRET}'\nevent = ['a']", "did you mean events"),
    ],
)
def test_mistakes_in_webhooks_are_told_with_their_place(toml: Path, text: str, wrong: str) -> None:
    toml.write_text(f"[[webhooks]]\n{text}\n")
    with pytest.raises(BadConfig, match=wrong):
        load({"config": str(toml)}, {})


def test_webhooks_have_names_of_their_own(toml: Path) -> None:
    one = f"[[webhooks]]\nid = 'x'\nurl = 'https://a.example/'\nsecret = '{SECRET}'\n"
    toml.write_text(one + one)
    with pytest.raises(BadConfig, match="the id x is given twice"):
        load({"config": str(toml)}, {})
