"""What an operator does to a store, and backups: by clicks, and seen in the log and the folder afterwards."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from .site import PATIENCE_MS, Site, barriers, event

expect.set_options(timeout=PATIENCE_MS)


def actions_of(site: Site, store: str, events: int) -> Page:
    """A store with so many events, and the page of what may be done to it."""
    site.append(store, *(event(data={"n": number}) for number in range(1, events + 1)))
    return site.page(f"/store?storeId={store}&tab=actions")


def section_of(page: Page, button: str) -> Locator:
    return page.locator("section").filter(has=page.get_by_role("button", name=button, exact=True))


def log_of(site: Site, store: str) -> list[tuple[int, Any]]:
    page = site.http.get("/api/v1/store/events", params={"storeId": store}).raise_for_status().json()
    return [(each["seqNum"], each["args"]) for each in page["events"]]


def test_a_store_is_rewound(site: Site) -> None:
    page = actions_of(site, "rewound", 5)
    form = section_of(page, "Rewind this store")
    form.get_by_label("Last event that stays").fill("3")
    form.get_by_label("Type the name").fill("rewind")
    form.get_by_role("button").click()
    expect(form.locator("output")).to_contain_text("Nothing was changed")
    assert len(log_of(site, "rewound")) == 5
    form.get_by_label("Type the name").fill("rewound")
    form.get_by_role("button").click()
    expect(form.locator("output")).to_have_text("The store ends at event 3 now.")
    site.go(page, "/store?storeId=rewound")
    expect(page.locator(".events tbody tr")).to_have_count(3)
    assert [number for number, _ in log_of(site, "rewound")] == [1, 2, 3]
    page.context.close()


def test_events_are_erased(site: Site) -> None:
    page = actions_of(site, "erased", 4)
    form = section_of(page, "Erase these events")
    form.get_by_label("Numbers of the events").fill("2, 4")
    form.get_by_label("Their args from now on").fill('{"n": "gone"}')
    form.get_by_label("Type the name").fill("erased")
    form.get_by_role("button").click()
    expect(form.locator("output")).to_contain_text("Erased. The log has 4 events")
    assert log_of(site, "erased") == [(1, {"n": 1}), (2, {"n": "gone"}), (3, {"n": 3}), (4, {"n": "gone"})]
    site.go(page, "/store/event?storeId=erased&seqNum=2")
    expect(page.locator(".tree")).to_contain_text("gone")
    page.context.close()


def test_a_store_is_deleted(site: Site) -> None:
    page = actions_of(site, "deleted", 2)
    form = section_of(page, "Delete this store")
    form.get_by_label("Type the name").fill("delete")
    form.get_by_role("button").click()
    expect(form.locator("output")).to_contain_text("Nothing was changed")
    form.get_by_label("Type the name").fill("deleted")
    form.get_by_role("button").click()
    expect(page.locator("h1")).to_have_text("Stores")
    assert site.http.get("/api/v1/store", params={"storeId": "deleted"}).status_code == 404
    page.context.close()


def test_a_store_is_renamed_with_its_events_and_its_identity(site: Site) -> None:
    page = actions_of(site, "young", 3)
    identity = site.http.get("/api/v1/store", params={"storeId": "young"}).json()["backendId"]
    form = section_of(page, "Rename this store")
    form.get_by_label("New name").fill("older & wiser")
    form.get_by_label("Type the name").fill("young")
    form.get_by_role("button").click()
    expect(page.locator("h1")).to_have_text("older & wiser")
    found = site.http.get("/api/v1/store", params={"storeId": "older & wiser"}).json()
    assert (found["backendId"], found["head"]) == (identity, 3)
    assert site.http.get("/api/v1/store", params={"storeId": "young"}).status_code == 404
    page.context.close()


def test_a_frozen_store_takes_nothing_until_it_is_thawed(site: Site) -> None:
    page = actions_of(site, "frozen", 1)
    page.get_by_role("button", name="Freeze this store").click()
    expect(page.get_by_role("button", name="Thaw this store")).to_be_visible()
    expect(page.locator("main")).to_contain_text("frozen: it takes no events")
    with pytest.raises(httpx.HTTPStatusError):
        site.append("frozen", event())
    assert len(log_of(site, "frozen")) == 1
    page.get_by_role("button", name="Thaw this store").click()
    expect(page.get_by_role("button", name="Freeze this store")).to_be_visible()
    site.append("frozen", event())
    assert len(log_of(site, "frozen")) == 2
    page.context.close()


def test_the_growth_of_a_store_is_plotted(site: Site) -> None:
    site.append("grown", event(), event(), event())
    page = site.page("/store?storeId=grown&tab=growth")
    expect(page.locator("figure canvas")).to_be_visible()
    expect(page.locator("figcaption b")).to_have_text("3 events")
    barriers(page, "/store?storeId=grown&tab=growth")
    page.context.close()


def test_a_backup_is_made_at_once_and_fetched(site: Site) -> None:
    page = site.page("/backups")
    site.until(lambda: site.http.get("/api/v1/backups").json()["files"])
    before = len(site.http.get("/api/v1/backups").json()["files"])
    page.get_by_role("button", name="Back up now").click()
    expect(page.locator("tbody tr")).to_have_count(before + 1)
    path = page.get_by_role("link", name="download").first.get_attribute("href")
    fetched = site.http.get(str(path))  # by the secret, which the browser's own downloads do not send
    assert fetched.headers["content-disposition"].startswith('attachment; filename="livesync-')
    assert fetched.content[:2] == b"\x1f\x8b"
    barriers(page, "/backups")
    for name in ("../livesync.toml", "/etc/passwd", ""):
        assert site.http.get("/api/v1/backups/file", params={"name": name}).status_code in (400, 404)
    page.context.close()


def test_a_backup_that_is_being_made_is_given_up(site: Site) -> None:
    """The process that makes it is stopped in its midst, so that there is time enough to click."""
    backups = site.folder / "backups"
    page = site.page("/backups")
    site.until(lambda: site.http.get("/api/v1/backups").json()["files"])  # the first one, which the start begins
    until_stopped(site, page)
    before = {each for each in backups.iterdir() if each.suffix != ".part"}
    expect(page.locator("main")).to_contain_text("A backup is being made")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("main")).to_contain_text(
        "The latest backup came to nothing. It was cancelled.",
        timeout=60_000,  # a process that stands still must be killed, after five seconds
    )
    site.until(lambda: site.http.get("/api/v1/backups").json()["making"] is None)
    assert set(backups.iterdir()) == before
    acts = site.http.get("/api/v1/audit", params={"act": "backup"}).json()["acts"]
    assert "cancel" in str(acts[0])
    page.context.close()


def until_stopped(site: Site, page: Page) -> None:
    """Begin a backup and stop its process. One that was too fast is begun anew."""

    def stopped() -> bool:
        if site.http.get("/api/v1/backups").json()["making"] is None:
            page.get_by_role("button", name="Back up now").click()
        site.until(lambda: children(site.pid) or site.http.get("/api/v1/backups").json()["making"] is None)
        for child in children(site.pid):
            os.kill(child, signal.SIGSTOP)
        return bool(children(site.pid)) and site.http.get("/api/v1/backups").json()["making"] is not None

    site.until(stopped)


def children(parent: int) -> list[int]:
    """Processes that another one started, and that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = stat.read_text(encoding="utf-8", errors="replace").partition(" (")
        except OSError:
            continue  # gone meanwhile
        state, its_parent, *_ = rest.rpartition(") ")[2].split()
        if int(its_parent) == parent and state != "Z":
            found.append(int(number))
    return found
