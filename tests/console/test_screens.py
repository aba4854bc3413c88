"""Every screen in a real browser: what it shows, what can be done on it, and that it is made for everybody."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, expect

from livesync_trio.client import open_backend_blocking

from .site import PATIENCE_MS, Site, barriers, event

expect.set_options(timeout=PATIENCE_MS)

STORE = "team/notes ö"
AT_STORE = "/store?storeId=team%2Fnotes+%C3%B6"
SCREENS = (
    *("/", "/stores", "/stores?containing=nothing-has-this", "/connections", "/connect", "/access", "/backups"),
    *(
        "/configuration",
        "/configuration?reload=look&only=given",
        "/log",
        "/log?tab=audit",
        "/stores?after=%00%00&sort=size",
    ),
    *(AT_STORE, f"{AT_STORE}&tab=live", f"{AT_STORE}&tab=sessions", f"{AT_STORE}&tab=connections"),
    *(f"{AT_STORE}&tab=actions", "/store?storeId=there-is-none", f"{AT_STORE}&name=none"),
    *(
        AT_STORE.replace("/store", "/store/event") + "&seqNum=2",
        AT_STORE.replace("/store", "/store/compare") + "&a=1&b=2",
    ),
)


IN_THE_DARK = ("/", f"{AT_STORE}&tab=actions", "/log", "/configuration?only=given")
"""Enough of them: all share one sheet."""


@pytest.fixture(scope="module", autouse=True)
def stored(site: Site) -> None:
    """A store with a few events, and two more."""
    site.append(
        STORE, *(event(f"v1.Note{'Added' if n % 2 else 'Removed'}", {"n": n, "deep": [{"a": n}]}) for n in range(1, 8))
    )
    site.append(STORE, event("v1.Big", {"id": 1}, "laptop", "s2"))
    site.append("a-store", event(data={"text": "x" * 5000}))
    site.append("b-store", event(), event())


def test_the_screens_are_within_reach_of_everybody(site: Site) -> None:
    """No barrier that axe finds, no broken policy, nothing wider than a phone; in both themes."""
    page = site.page(width=360)
    for path in SCREENS:
        site.go(page, path)
        expect(page.locator("main h1, main h2").first).to_be_visible()
        barriers(page, path, ("light", "dark") if path in IN_THE_DARK else ("light",))
    page.context.close()


def test_the_first_page_is_small(site: Site) -> None:
    page = site.page()
    expect(page.locator("canvas").first).to_be_visible()
    sizes = page.evaluate(
        "[...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]"
        ".filter(each => !each.name.includes('/live')).map(each => each.transferSize)"
    )
    assert len(sizes) > 5
    assert sum(sizes) < 150_000


def test_nothing_comes_from_elsewhere_and_no_frame_holds_a_page(site: Site) -> None:
    answer = site.http.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "://" not in policy
    assert not re.search(r'(src|href)="(https?:)?//', answer.text)
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=", answer.text)


def test_the_overview_follows_what_happens(site: Site) -> None:
    page = site.page()
    pushes = page.locator("figure").filter(has_text="Pushes and events")
    expect(pushes.locator("canvas")).to_be_visible()
    connections = page.locator("figure").filter(has_text="Connections by client")
    with open_backend_blocking(site.url, store_id=STORE, payload={"authToken": site.token()}):
        expect(connections).to_contain_text(re.compile("[1-9]$"))
        expect(page.locator("#state")).to_contain_text(re.compile("well, [1-9]"))
    kept = site.http.get("/api/v1/series").json()
    row = dict(zip(kept["columns"], kept["rows"][-1], strict=True))
    assert row["memoryBytes"] > 10_000_000
    assert row["databaseBytes"] > 0
    assert sum(each[kept["columns"].index("events")] for each in kept["rows"]) > 0
    page.context.close()


def test_stores_are_searched_sorted_and_paged_by_their_address(site: Site) -> None:
    page = site.page("/stores")
    page.get_by_label("Name contains").fill("-store")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_label("Sort by").select_option("size")
    expect(page.locator("tbody tr").first).to_contain_text("a-store")
    expect(page).to_have_url(re.compile(re.escape("containing=-store")))
    expect(page).to_have_url(re.compile(re.escape("sort=size")))
    page.reload()
    expect(page.locator("tbody tr").first).to_contain_text("a-store")
    site.go(page, "/stores?limit=1&sort=head")
    seen = []
    for _ in range(3):
        seen.append(page.locator("tbody tr a").inner_text())
        if page.get_by_role("link", name="Next page").count():
            page.get_by_role("link", name="Next page").click()
            page.wait_for_load_state()
    assert seen == [STORE, "b-store", "a-store"]
    page.context.close()


def test_events_are_filtered_opened_copied_and_compared(site: Site) -> None:
    page = site.page(AT_STORE)
    expect(page.locator(".events tbody tr")).to_have_count(8)
    page.get_by_label("Name", exact=True).fill("v1.NoteAdded")
    expect(page.locator(".events tbody tr")).to_have_count(4)
    expect(page).to_have_url(re.compile(re.escape("name=v1.NoteAdded")))
    page.reload()
    expect(page.locator(".events tbody tr")).to_have_count(4)
    page.get_by_role("link", name="7", exact=True).click()
    tree = page.locator(".tree")
    expect(tree).to_contain_text("deep")
    page.get_by_role("button", name="copy args").click()
    expect(page.locator("#said")).to_have_text("Copied.")
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == {"n": 7, "deep": [{"a": 7}]}
    page.get_by_label("Compare event 7").check()
    page.get_by_label("Compare event 3").check()
    page.get_by_role("button", name="Compare two events").click()
    expect(page.locator(".diff tbody tr")).to_have_count(2)
    expect(page.locator(".diff")).to_contain_text("deep[0].a")
    assert page.url.endswith("a=3&b=7")
    page.context.close()


def test_numbers_that_javascript_cannot_hold_are_shown_as_they_were_written(site: Site) -> None:
    token = site.token()
    with open_backend_blocking(site.url, store_id="numbers", payload={"authToken": token}) as backend:
        from livesync_trio.client import Event

        backend.push([Event(1, 0, "v1.Big", b'{"exact":12345678901234567890,"half":1.50}', "c", "s")])
    page = site.page("/store/event?storeId=numbers&seqNum=1")
    expect(page.locator(".tree")).to_contain_text("12345678901234567890")
    page.get_by_role("button", name="copy args").click()
    expect(page.locator("#said")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == '{"exact":12345678901234567890,"half":1.50}'
    page.context.close()


def test_the_live_tail_shows_events_pauses_and_goes_on(site: Site) -> None:
    page = site.page("/store?storeId=b-store&tab=live")
    expect(page.locator("#state")).to_contain_text("following")
    site.append("b-store", event("v1.First"))
    expect(page.locator("#tail-rows")).to_contain_text("v1.First")
    page.get_by_role("button", name="Pause").click()
    site.append("b-store", event("v1.Second"))
    expect(page.locator("#tail-state")).to_contain_text("1 waiting, paused")
    expect(page.locator("#tail-rows")).not_to_contain_text("v1.Second")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#tail-rows tr").first).to_contain_text("v1.Second")
    page.get_by_label("Name contains").fill("first")
    expect(page.locator("#tail-rows tr:visible")).to_have_count(1)
    page.context.close()


def test_a_connection_is_seen_and_closed(site: Site) -> None:
    page = site.page("/connections?storeId=a-store")
    expect(page.locator("main")).to_contain_text("Nobody is connected")
    with open_backend_blocking(site.url, store_id="a-store", payload={"authToken": site.token()}):
        row = page.locator("tbody tr")
        expect(row).to_contain_text("ada")
        number = row.locator("td").first.inner_text()
        page.get_by_role("button", name="Close").click()
        expect(page.locator("tbody td.n").first).not_to_have_text(number)  # the client is back under another one
    acts = site.http.get("/api/v1/audit", params={"act": "close"}).json()["acts"]
    assert acts[0]["store"] == "a-store"
    page.context.close()


def test_a_test_event_is_posted_and_a_store_reset(site: Site) -> None:
    site.append("doomed", event(), event())
    page = site.page("/store?storeId=doomed&tab=actions")
    posting = page.locator("section").filter(has_text="Post a test event")
    posting.get_by_label("Name").fill("v1.Tried")
    posting.get_by_label("Args, as JSON").fill("{not json")
    page.get_by_role("button", name="Append to the log").click()
    expect(posting.locator("output")).to_contain_text("This is not JSON")
    posting.get_by_label("Args, as JSON").fill('{"tried": true}')
    page.get_by_role("button", name="Append to the log").click()
    expect(posting.locator("output")).to_have_text("Stored as event 3.")
    reset = page.locator("section").filter(has=page.get_by_role("button", name="Reset this store"))
    reset.get_by_label("Type the name of the store").fill("dooomed")
    page.get_by_role("button", name="Reset this store").click()
    expect(reset.locator("output")).to_contain_text("Nothing was changed")
    reset.get_by_label("Type the name of the store").fill("doomed")
    page.get_by_role("button", name="Reset this store").click()
    expect(page.locator("main")).to_contain_text("This store is empty")
    page.context.close()


def test_a_decision_is_explained_step_by_step(site: Site) -> None:
    page = site.page("/access?storeId=a-store")
    page.get_by_role("button", name="Decide").click()
    expect(page.locator("#explained")).to_contain_text("It may not connect.")
    expect(page.locator("#explained li.refused")).to_contain_text("It brings none")
    page.get_by_label("Stores to read and write").fill("a-*")
    page.get_by_role("button", name="Make a token").click()
    expect(page.locator("#made")).to_be_visible()
    page.get_by_role("button", name="Decide").click()
    expect(page.locator("#explained")).to_contain_text("It may read and write, as user developer.")
    page.get_by_label("Store", exact=True).fill("b-store")
    page.get_by_role("button", name="Decide").click()
    expect(page.locator("#explained li.refused")).to_contain_text("a-*")
    page.context.close()


def test_the_browser_checks_that_apps_get_through(site: Site) -> None:
    page = site.page("/connect?storeId=a-store")
    page.get_by_role("button", name="make a token").click()
    expect(page.locator("#check-token")).to_have_value(re.compile(".{40}"))
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#checked li.passed")).to_contain_text("Apps get through.")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#checked li.refused").last).to_contain_text("answered 401")
    page.context.close()


def test_settings_are_found_and_a_reload_says_what_it_would_do(site: Site) -> None:
    page = site.page("/configuration")
    page.get_by_label("Setting contains").fill("signs JSON Web")
    expect(page.locator(".settings tbody tr")).to_have_count(1)
    expect(page.locator(".settings")).to_contain_text("set")
    page.get_by_role("link", name="Show what a reload would change").click()
    expect(page.locator("main")).to_contain_text("No setting has changed")
    page.get_by_role("button", name="Reload").click()
    expect(page.locator("#said")).to_have_text("Reloaded.")
    assert site.http.get("/api/v1/log", params={"containing": "reloaded"}).json()["lines"]
    page.context.close()


def test_the_log_is_filtered_and_shows_what_comes(site: Site) -> None:
    page = site.page("/log?level=debug&containing=hello-from-the-log")
    expect(page.locator("main")).to_contain_text("No line of this server's log fits")
    with open_backend_blocking(site.url, store_id="hello-from-the-log", payload={"authToken": site.token()}):
        expect(page.locator(".lines tbody tr").first).to_contain_text("connected")
    page.context.close()


def test_keys_alone_are_enough(site: Site) -> None:
    page = site.page("/stores")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Name contains")).to_be_focused()
    page.keyboard.type("b-st")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.get_by_label("Name contains")).to_be_focused()
    for _ in range(3):  # the choice of an order, the table, which may have to be scrolled, and its first link
        page.keyboard.press("Tab")
    expect(page.locator("tbody a")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("b-store")
    page.context.close()


def test_times_are_the_readers_with_utc_at_hand(site: Site) -> None:
    page = site.page(AT_STORE, timezone_id="Asia/Kathmandu")
    time = page.locator("td time").first
    utc = time.get_attribute("datetime")
    assert utc is not None
    local = time.inner_text()
    assert local[14:] == f"{(int(utc[14:16]) + 45) % 60:02d}{utc[16:19]}"
    page.get_by_role("button", name=re.compile("times in Asia")).click()
    expect(time).to_have_text(utc[:19].replace("T", " "))
    page.context.close()


def restarted(site: Site, page: Page) -> None:
    """The server goes away under a page, and comes back."""
    site.stop()
    expect(page.locator("#lost")).to_contain_text("The server does not answer. Trying again")
    site.start()


def test_a_page_says_that_the_server_is_gone_and_comes_back_by_itself(site: Site) -> None:
    overview = site.page("/")
    expect(overview.locator("#state")).to_contain_text("well")
    tail = site.page("/store?storeId=b-store&tab=live")
    expect(tail.locator("#state")).to_contain_text("following")
    restarted(site, tail)
    for page in (overview, tail):
        expect(page.locator("#lost")).to_be_hidden()
    site.append("b-store", event("v1.AfterTheRestart"))
    expect(tail.locator("#tail-rows")).to_contain_text("v1.AfterTheRestart")
    expect(overview.locator("#state")).to_contain_text("well")
