"""Operators in a browser: signing in, what a viewer may do, sessions that end under an open page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from .site import PATIENCE_MS, Site, barriers, event

expect.set_options(timeout=PATIENCE_MS)

PASSWORD = "correct horse battery staple"
OWNER, VIEWER = "owner@example.org", "viewer@example.org"


@pytest.fixture(scope="module", autouse=True)
def operators(site: Site) -> None:
    """An owner and a viewer, and a store to look at."""
    for email, role in ((OWNER, "owner"), (VIEWER, "viewer")):
        body = {"email": email, "password": PASSWORD, "role": role}
        site.http.post("/api/v1/operators/create", json=body).raise_for_status()
    site.append("kept", event(), event())


def signed_in(site: Site, email: str, path: str = "/") -> Page:
    page = site.page(path, stranger=True)
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("body[data-screen]")).to_be_visible()
    return page


def test_a_stranger_signs_in_and_is_where_he_wanted_to_be(site: Site) -> None:
    page = signed_in(site, OWNER, "/stores?containing=ke")
    assert page.url == f"{site.control}/stores?containing=ke"
    expect(page.locator("#state")).to_contain_text("well")
    expect(page.locator(".who")).to_contain_text(OWNER)
    page.get_by_role("button", name="sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.context.close()


def test_a_viewer_looks_and_changes_nothing(site: Site) -> None:
    page = signed_in(site, VIEWER, "/store?storeId=kept&tab=actions")
    expect(page.locator("main")).to_contain_text("Your role may look, and change nothing.")
    expect(page.get_by_role("navigation", name="Screens")).not_to_contain_text("Operators")
    for path, body in {
        "/api/v1/store/reset": {"storeId": "kept", "confirm": "kept"},
        "/api/v1/store/append": {"storeId": "kept", "name": "v1.X", "args": {}},
        "/api/v1/config/reload": {},
        "/api/v1/access/token": {"user": "viewer", "stores": ["*"]},
        "/api/v1/operators/role": {"email": VIEWER, "role": "owner"},
    }.items():
        with pytest.raises(Exception, match="does not allow that"):
            page.evaluate("([path, body]) => Console.ask(path, body)", [path, body])
    assert page.goto(f"{site.control}/operators").status == 403  # type: ignore[union-attr]
    assert site.http.get("/api/v1/store", params={"storeId": "kept"}).json()["head"] == 2
    page.context.close()


def test_what_an_owner_does_carries_the_token_of_the_session(site: Site) -> None:
    page = signed_in(site, OWNER, "/store?storeId=kept&tab=actions")
    page.get_by_label("Name", exact=True).fill("v1.ByTheOwner")
    page.get_by_role("button", name="Append to the log").click()
    posting = page.locator("section").filter(has_text="Post a test event")
    expect(posting.locator("output")).to_have_text("Stored as event 3.")
    acts = site.http.get("/api/v1/audit", params={"act": "append"}).json()["acts"]
    assert acts[0]["user"] == OWNER
    page.evaluate("document.querySelector('meta[name=csrf]').content = 'forged'")
    page.get_by_role("button", name="Append to the log").click()
    expect(page.locator("output.refused")).to_be_visible()
    page.context.close()


def test_an_operator_is_added_and_a_token_made(site: Site) -> None:
    page = signed_in(site, OWNER, "/operators")
    page.get_by_label("E-mail address").fill("new@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Add").click()
    expect(page.locator("tbody")).to_contain_text("new@example.org")
    barriers(page, "/operators")
    row = page.locator("tr").filter(has_text="new@example.org")
    row.get_by_role("button", name="Remove").click()
    expect(page.locator("tbody")).not_to_contain_text("new@example.org")
    site.go(page, "/account")
    page.get_by_label("What it is for").fill("a dashboard")
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("#made")).to_contain_text("This is shown once.")
    page.reload()
    expect(page.locator("main")).to_contain_text("a dashboard")
    barriers(page, "/account")
    page.context.close()


def test_a_session_that_ends_elsewhere_is_told_to_the_other_tab(site: Site) -> None:
    page = signed_in(site, VIEWER)
    expect(page.locator("#state")).to_contain_text("well")
    other = page.context.new_page()
    other.goto(f"{site.control}/account")
    other.on("dialog", lambda dialog: dialog.accept())
    other.get_by_role("button", name="Sign out everywhere").click()
    expect(other.get_by_role("button", name="Sign in")).to_be_visible()
    expect(page.locator("#lost")).to_contain_text("You are signed out.")
    page.context.close()
