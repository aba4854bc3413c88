"""Signing in and out of a real server on each database, and what keeps everybody else out."""

from __future__ import annotations

import re
import secrets
from typing import Any

import httpx
import pytest

from .servers import OWNER, PASSWORD, Server, refusal


def cookie_of(answer: httpx.Response) -> str:
    """The header that sets the cookie; there must be one."""
    (header,) = answer.headers.get_list("set-cookie")
    return str(header)


# --- the pages -------------------------------------------------------------------------------------------------------


def test_the_link_is_good_once_and_for_nobody_else(server: Server) -> None:
    assert server.first_link is not None
    with server.browser() as browser:
        page = browser.get(server.first_link)
        assert page.status_code == 403
        assert "not any more" in page.text
        assert "<form" not in page.text
    assert server.make_owner().status_code == 403
    with server.browser() as browser:
        assert browser.get("/first?token=%00%ff").status_code == 403
        refusal(
            browser.post("/api/v1/operators/first", json={"token": "x", "email": OWNER, "password": PASSWORD}),
            403,
            "not-allowed",
        )


@pytest.mark.parametrize("public", [False, True])
def test_who_wants_a_page_is_led_to_sign_in_and_back(server: Server, public: bool) -> None:
    root = "/admin" if public else ""
    with server.browser(public=public, accept="text/html") as browser:
        led = browser.get("/stores?containing=a&x=%2F")
        assert led.status_code == 303
        assert led.headers["location"] == f"{root}/login?next=/stores%3Fcontaining%3Da%26x%3D%252F"
        page = browser.get(led.headers["location"].removeprefix(root))
        assert page.status_code == 200
        assert f'action="{root}/login"' in page.text
        hidden = re.search(r'name="next" value="([^"]*)"', page.text)
        assert hidden is not None
        form = {"next": hidden[1].replace("&amp;", "&"), "email": OWNER, "password": PASSWORD}
        wrong = browser.post("/login", data={**form, "password": "another way home"})
        assert wrong.status_code == 401
        assert 'role="alert"' in wrong.text
        assert "another way" not in wrong.text
        entered = browser.post("/login", data=form)
        assert entered.status_code == 303
        assert entered.headers["location"] == f"{root}/stores?containing=a&x=%2F"
        assert browser.get("/login").status_code == 303  # who is in goes on
        me = browser.get("/api/v1/whoami").json()
        assert (me["kind"], me["email"], me["role"]) == ("session", OWNER, "owner")
        out = browser.post("/logout", data={"csrf": me["csrf"]})
        assert (out.status_code, out.headers["location"]) == (303, f"{root}/login")
        assert "Max-Age=0" in cookie_of(out)
        refusal(browser.get("/api/v1/whoami"), 401, "unauthenticated")


@pytest.mark.parametrize(
    "where",
    [
        *("//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)"),
        *("/\t/evil.example", "/\r\nset-cookie: a=b", "evil.example", "", "/ü", "/ x", "///evil.example", "/\x00"),
    ],
)
def test_nobody_is_sent_elsewhere_after_signing_in(server: Server, where: str) -> None:
    browser = server.signed_in().client
    answer = browser.get("/login", params={"next": where})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_page_can_be_neither_framed_nor_filled_with_code(server: Server) -> None:
    with server.browser() as browser:
        for path in ("/login?next=%22%3E%3Cscript%3E", "/first?token=%22%3E%3Cscript%3E"):
            page = browser.get(path)
            assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert page.headers["x-frame-options"] == "DENY"
            assert page.headers["cache-control"] == "no-store"
            assert page.headers["referrer-policy"] == "same-origin"
            assert _foreign_code(page.text) == []
            assert not re.search(r"\bon\w+=|style=|javascript:", page.text)
        page = browser.post("/login", data={"email": '"><script>alert(1)</script>', "password": "x", "next": "/"})
        assert _foreign_code(page.text) == []


def _foreign_code(page: str) -> list[str]:
    """Elements of scripts but those of the console's own files."""
    return [
        tag
        for tag in re.findall(r"<script[^>]*>[^<]*", page)
        if not re.fullmatch(r'<script src="/static/[\w.?=]+">', tag)
    ]


def test_a_link_from_elsewhere_is_asked_again_from_here(server: Server) -> None:
    browser = server.signed_in().client
    cookie = dict(browser.cookies)
    browser.cookies.clear()  # as browsers do for a navigation that begins elsewhere
    answer = browser.get("/login", params={"next": "/stores"}, headers={"sec-fetch-site": "cross-site"})
    assert (answer.status_code, answer.headers["refresh"]) == (200, "0; url=/login?asked=1&next=/stores")
    browser.cookies.update(cookie)
    answer = browser.get("/login?asked=1&next=/stores", headers={"sec-fetch-site": "same-origin"})
    assert answer.headers["location"] == "/stores"


# --- the cookie ------------------------------------------------------------------------------------------------------


def test_what_a_browser_is_told_about_the_cookie(server: Server) -> None:
    given = {"email": OWNER, "password": PASSWORD}
    with server.browser() as browser:
        header = cookie_of(browser.post("/api/v1/login", json=given))
        assert re.fullmatch(
            r"livesync_session=[0-9a-f]{16}\.[\w-]{43}; Max-Age=43200; Path=/; HttpOnly; SameSite=Strict", header
        )
    behinds: list[dict[str, Any]] = [
        {"x-forwarded-proto": "https"},
        {"host": "ops.example", "origin": "https://ops.example"},
    ]
    for behind in behinds:
        with server.browser(**behind) as browser:
            header = cookie_of(browser.post("/api/v1/login", json=given))
            assert re.fullmatch(
                r"__Host-livesync_session=\S+; Max-Age=43200; Path=/; HttpOnly; SameSite=Strict; Secure", header
            )
            assert "domain" not in header.lower()


def test_a_neighbour_cannot_set_the_cookie(server: Server) -> None:
    value = server.signed_in().client.cookies["livesync_session"]
    mine, theirs = f"livesync_session={value}", f"livesync_session={'0' * 16}.{'x' * 43}"

    def asked(cookie: str, **headers: Any) -> int:
        with server.browser(cookie=cookie, **headers) as browser:
            return browser.get("/api/v1/whoami").status_code

    assert asked(mine) == 200
    assert asked(f"__Host-{mine}") == 200
    assert asked(f"{mine}; {theirs}") == asked(f"{theirs}; {mine}") == 401
    assert asked(f"{theirs}; __Host-{mine}") == 200, "what a neighbour set is not looked at"
    assert asked(mine, **{"x-forwarded-proto": "https"}) == 401, "behind TLS the plain name is not read"
    assert asked(f"__Host-{mine}", **{"x-forwarded-proto": "https"}) == 200


def test_a_session_is_new_with_each_sign_in_and_the_old_one_ends(server: Server) -> None:
    fixed = f"{'0' * 16}.{'x' * 43}"
    with server.browser() as browser:
        browser.cookies.set("livesync_session", fixed)
        first = browser.post("/api/v1/login", json={"email": OWNER, "password": PASSWORD})
        value = re.search(r"=([^;]*)", cookie_of(first))
        assert value is not None
        assert value[1] != fixed
        browser.cookies.clear()
        browser.cookies.set("livesync_session", value[1])
        assert browser.get("/api/v1/whoami").status_code == 200
        browser.post("/api/v1/login", json={"email": OWNER, "password": PASSWORD})
        for old in (fixed, value[1]):
            with server.browser(cookie=f"livesync_session={old}") as other:
                assert other.get("/api/v1/whoami").status_code == 401


# --- forged requests -------------------------------------------------------------------------------------------------

EVERYWHERE = "/api/v1/logout/everywhere"


def test_what_changes_something_brings_the_token_of_its_session(server: Server) -> None:
    one, other = server.signed_in(), server.signed_in()
    for token in (None, "", "x" * 64, other.csrf, "\xff"):
        headers = {} if token is None else {"x-csrf-token": token.encode("latin-1")}
        refusal(one.client.post(EVERYWHERE, json={}, headers=headers), 403, "not-allowed")  # type: ignore[arg-type]
    for form in ({}, {"csrf": other.csrf}):
        refusal(one.client.post("/logout", data=form), 403, "not-allowed")
    assert one.is_in
    assert one.client.post("/logout", data={"csrf": one.csrf}).status_code == 303
    assert not one.is_in


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
    ],
    ids=str,
)
def test_pages_of_other_origins_change_nothing(server: Server, headers: dict[str, str]) -> None:
    browser = server.signed_in()
    sent = {**headers, "x-csrf-token": browser.csrf}
    refusal(browser.client.post(EVERYWHERE, json={}, headers=sent), 403, "origin-refused")
    given = {"email": OWNER, "password": PASSWORD}
    refusal(browser.client.post("/api/v1/login", json=given, headers=headers), 403, "origin-refused")
    refusal(browser.client.post("/login", data=given, headers=headers), 403, "origin-refused")
    assert browser.is_in
    own = {"origin": server.url, "sec-fetch-site": "same-origin", "x-csrf-token": browser.csrf}
    assert browser.client.post("/api/v1/logout", json={}, headers=own).status_code == 200


# --- sessions --------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_and_ended(server: Server) -> None:
    here, there = server.signed_in(), server.signed_in()
    listed = {each["sessionId"]: each for each in here.get("/api/v1/operators/sessions").json()["sessions"]}
    assert listed[here.me["sessionId"]]["current"]
    assert not listed[there.me["sessionId"]]["current"]
    assert listed[there.me["sessionId"]]["agent"] == "Browser/1"
    assert listed[there.me["sessionId"]]["address"].startswith("203.0.113.")
    assert here.post("/api/v1/operators/sessions/end", sessionId=there.me["sessionId"]).status_code == 200
    assert (here.is_in, there.is_in) == (True, False)
    refusal(here.post("/api/v1/operators/sessions/end", sessionId=there.me["sessionId"]), 404, "not-found")
    third = server.signed_in()
    assert here.post(EVERYWHERE).status_code == 200
    assert (here.is_in, third.is_in) == (False, False)


def test_another_password_ends_all_sessions_and_asks_for_the_present_one(server: Server) -> None:
    email = new_operator(server, "operator")
    browser = server.signed_in(email)
    changed: dict[str, Any] = {"email": email, "password": "quite another way"}
    refusal(browser.post("/api/v1/operators/password", **changed), 400, "bad-parameter")
    refusal(browser.post("/api/v1/operators/password", **changed, present="not the one"), 400, "bad-parameter")
    refusal(browser.post("/api/v1/operators/password", email=OWNER, password="quite another way"), 404, "not-found")
    assert browser.post("/api/v1/operators/password", **changed, present=PASSWORD).status_code == 200
    assert not browser.is_in
    assert server.signed_in(email, "quite another way").is_in


def new_operator(server: Server, role: str) -> str:
    """Make an operator; his or her address."""
    email = f"{role}-{secrets.token_hex(4)}@example.org"
    owner = server.signed_in()
    answer = owner.post("/api/v1/operators/create", email=email, password=PASSWORD, role=role)
    assert answer.status_code == 200, answer.text
    return email


def test_who_is_removed_is_out_at_once(server: Server) -> None:
    email = new_operator(server, "owner")
    browser = server.signed_in(email)
    token = browser.post("/api/v1/tokens/create", name="t", scopes=["look"]).json()["token"]
    owner = server.signed_in()
    refusal(owner.post("/api/v1/operators/remove", email=email, confirm=OWNER), 400, "bad-parameter")
    assert owner.post("/api/v1/operators/remove", email=email, confirm=email).status_code == 200
    assert not browser.is_in
    with server.browser(authorization=f"Bearer {token}") as program:
        refusal(program.get("/api/v1/info"), 401, "unauthenticated")
    refusal(owner.post("/api/v1/operators/remove", email=OWNER, confirm=OWNER), 400, "bad-parameter")
    refusal(owner.post("/api/v1/operators/role", email=OWNER, role="viewer"), 400, "bad-parameter")


def test_another_role_counts_from_the_next_request_on(server: Server) -> None:
    email = new_operator(server, "owner")
    browser = server.signed_in(email)
    assert browser.get("/api/v1/operators").status_code == 200
    assert server.signed_in().post("/api/v1/operators/role", email=email, role="viewer").status_code == 200
    refusal(browser.get("/api/v1/operators"), 403, "not-allowed")


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_does_what_it_was_made_for_until_it_is_revoked(server: Server) -> None:
    owner = server.signed_in()
    made = owner.post("/api/v1/tokens/create", name="dashboards", scopes=["look"]).json()
    with server.browser(authorization=f"Bearer {made['token']}") as program:
        assert program.get("/api/v1/stores").status_code == 200
        assert program.get("/metrics").status_code == 200
        assert program.get("/api/v1/whoami").json()["rights"] == ["enter", "look"]
        for path in ("/api/v1/store/events?storeId=x", "/api/v1/operators"):
            refusal(program.get(path), 403, "not-allowed")
        refusal(program.post("/api/v1/store/reset", json={"storeId": "x", "confirm": "x"}), 403, "not-allowed")
        refusal(program.post("/api/v1/tokens/create", json={"name": "t", "scopes": ["look"]}), 403, "not-allowed")
        refusal(program.post("/api/v1/logout", json={}), 400, "bad-parameter")
        listed = owner.get("/api/v1/tokens").json()["tokens"]
        assert [each["name"] for each in listed if each["tokenId"] == made["tokenId"]] == ["dashboards"]
        assert made["token"] not in str(listed)
        assert owner.post("/api/v1/tokens/revoke", tokenId=made["tokenId"]).status_code == 200
        refusal(program.get("/api/v1/stores"), 401, "unauthenticated")


def test_nobody_makes_a_token_that_may_more(server: Server) -> None:
    viewer = server.signed_in(new_operator(server, "viewer"))
    refusal(viewer.post("/api/v1/tokens/create", name="t", scopes=["look", "change"]), 403, "not-allowed")
    mine = viewer.post("/api/v1/tokens/create", name="t", scopes=["look"]).json()
    theirs = server.signed_in().post("/api/v1/tokens/create", name="o", scopes=["administer"]).json()
    assert [each["tokenId"] for each in viewer.get("/api/v1/tokens").json()["tokens"]] == [mine["tokenId"]]
    refusal(viewer.post("/api/v1/tokens/revoke", tokenId=theirs["tokenId"]), 404, "not-found")


# --- what is told, and what is recorded ------------------------------------------------------------------------------


def test_an_answer_does_not_tell_who_has_an_account(server: Server) -> None:
    answers = []
    for email in (OWNER, "nobody@example.org", "no address at all", ""):
        with server.browser() as browser:
            answer = browser.post("/api/v1/login", json={"email": email, "password": "another way home"})
            headers = {name: value for name, value in answer.headers.items() if name != "date"}
            page = browser.post("/login", data={"email": "", "password": "another way home"})
        answers.append((answer.status_code, answer.text, headers, page.text))
    assert answers.count(answers[0]) == len(answers)


def test_everything_is_recorded_and_nothing_secret(server: Server) -> None:
    owner = server.signed_in()
    email = f"temp-{secrets.token_hex(4)}@example.org"
    owner.post("/api/v1/operators/create", email=email, password=PASSWORD, role="viewer")
    owner.post("/api/v1/operators/role", email=email, role="operator")
    token = owner.post("/api/v1/tokens/create", name="temp", scopes=["look"]).json()
    owner.post("/api/v1/tokens/revoke", tokenId=token["tokenId"])
    with server.browser("198.51.100.7") as guesser:
        given = {"email": email, "password": "another way home"}
        while (answer := guesser.post("/api/v1/login", json=given)).status_code != 429:
            refusal(answer, 401, "unauthenticated")  # on a slow machine some attempts come back meanwhile
    refusal(answer, 429, "too-fast")
    assert int(answer.headers["retry-after"]) >= 1
    owner.post("/api/v1/operators/password", email=email, password="quite another way")
    owner.post("/api/v1/operators/remove", email=email, confirm=email)
    owner.post("/api/v1/logout")
    lines = server.records()
    about = [(line["act"], line.get("did", "")) for line in lines if email in (line.get("operator"), line["user"])]
    did = ["create", "role", "password", "remove"]
    assert [act for act in about if act[1]] == [("operator", each) for each in did]
    assert about.count(("login-failed", "")) >= 5
    assert ("throttled", "") in about
    acts = {(line["act"], line["user"]) for line in lines}
    assert {("login", OWNER), ("logout", OWNER), ("token", OWNER)} <= acts
    said = (server.directory / "audit.jsonl").read_text() + server.log
    cookie = owner.client.cookies.get("livesync_session", "") or "none"
    for secret in (PASSWORD, "another way", token["token"], owner.csrf, cookie.partition(".")[2] or "none such"):
        assert secret not in said
