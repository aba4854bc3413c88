"""Screens of what a server can do besides: webhooks, a change feed, backups, whole logs, and an app that pushes."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from playwright.sync_api import Browser, expect

from tests.conformance import node_packages
from tests.conformance.apps import App, todo_created
from tests.feed.conftest import LOGICAL, drop_slots
from tests.postgres.server import URL_VARIABLE, PostgresServer, new_cluster

from .site import PATIENCE_MS, Site, barriers, event

expect.set_options(timeout=PATIENCE_MS)

STORE = "team/<notes>"
AT_STORE = "/store?storeId=team%2F%3Cnotes%3E"
TABLE = "public.todos"


class Receiver(BaseHTTPRequestHandler):
    """Takes webhooks, unless it is told to refuse them."""

    refuses: ClassVar[bool] = False

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(500 if self.refuses else 204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def receiver() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/hook"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def source() -> Iterator[PostgresServer]:
    """A PostgreSQL whose table is followed."""
    if URL_VARIABLE in os.environ:
        pytest.skip(f"{URL_VARIABLE}: this PostgreSQL is not ours to set up")
    server = new_cluster(f"console-{os.getpid()}-{secrets.token_hex(3)}")
    server.start(*LOGICAL)
    server.run("CREATE TABLE todos (id int PRIMARY KEY, title text)")
    server.run("INSERT INTO todos VALUES (1, 'a')")
    yield server
    drop_slots(server, "postgres")
    server.stop()


@pytest.fixture(scope="module")
def site(browser: Browser, source: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with everything switched on, on PostgreSQL."""
    folder = tmp_path_factory.mktemp("site")
    lines = ["[feed]", f"source = {json.dumps(source.url())}", f'tables = ["{TABLE}"]', 'slot = "feed_of_the_console"']
    (folder / "livesync.toml").write_text("\n".join([*lines, "[feed.access]", f'"{TABLE}" = true']) + "\n")
    more = {
        "LIVESYNC_CONFIG": "livesync.toml",
        "LIVESYNC_STORE_USER": "true",
        "LIVESYNC_WEBHOOK_PRIVATE_HOSTS": "127.0.0.1",
        "DATABASE_URL": source.url(),
    }
    site = Site(folder, browser, **more)
    site.start()
    site.append(STORE, *(event(data={"n": number}) for number in range(40)))
    yield site
    site.stop()
    site.http.close()
    assert site.faults == []


def test_a_webhook_is_added_tested_paused_and_removed(site: Site, receiver: str) -> None:
    page = site.page("/webhooks")
    expect(page.locator("main")).to_contain_text("There is no webhook yet")
    page.get_by_label("Id, by which").fill("search")
    page.get_by_label("URL it sends to").fill(receiver)
    page.get_by_role("button", name="make a secret").click()
    expect(page.get_by_label("Secret that signs")).to_have_value(re.compile("whsec_.{20}"))
    page.get_by_role("button", name="Add").click()
    card = page.locator("section.card").first
    expect(card).to_contain_text("search")

    def delivering() -> bool:
        return bool(site.http.get("/api/v1/webhooks").json()["webhooks"][0]["mode"] == "delivering")

    site.until(delivering)
    card.get_by_role("button", name="Send a test").click()
    expect(page.locator("#said")).to_contain_text("taken: true")
    Receiver.refuses = True
    site.append(STORE, event("v1.Delivered"))
    site.until(lambda: site.http.get("/api/v1/webhooks").json()["webhooks"][0]["failed"] > 0)
    site.go(page, "/webhooks?webhook=search")
    row = page.locator("tbody tr")
    expect(row).to_contain_text(STORE)
    expect(row).to_contain_text("500")
    barriers(page, "/webhooks?webhook=search")
    Receiver.refuses = False
    row.get_by_role("button", name="Deliver again").click()
    site.until(lambda: site.http.get("/api/v1/webhooks").json()["webhooks"][0]["deliveredEvents"] >= 41)
    card.get_by_role("button", name="Pause").click()
    expect(card.get_by_role("button", name="Resume")).to_be_visible()
    card.get_by_role("button", name="Remove").click()
    expect(page.locator("main")).to_contain_text("There is no webhook yet")
    page.context.close()


def test_the_change_feed_is_followed(site: Site) -> None:
    page = site.page("/feed")

    def follows() -> bool:
        return bool(site.http.get("/api/v1/feed").json()["feed"]["phase"] == "following")

    site.until(follows)
    page.reload()
    expect(page.locator("main")).to_contain_text("following")
    expect(page.locator("tbody tr")).to_contain_text(TABLE)
    expect(page.get_by_role("navigation", name="Screens")).to_contain_text("Change feed")
    barriers(page, "/feed")
    page.context.close()


def test_the_size_of_a_database_elsewhere_is_asked_while_somebody_looks(site: Site) -> None:
    page = site.page()
    figure = page.locator("figure").filter(has_text="Database size")
    expect(figure).to_contain_text(re.compile(r"Database [\d.]+ MB"))
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


def test_a_store_is_verified_and_exported(site: Site) -> None:
    page = site.page(f"{AT_STORE}&tab=actions")
    page.get_by_role("button", name="Verify this store").click()
    expect(page.locator("[data-walk=verify] output")).to_contain_text("The log is whole: 4")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export this store").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["storeId"] == STORE
    assert json.loads(lines[-1])["endOfFile"]
    expect(page.locator("[data-walk=export] output")).to_contain_text(f"Saved: {len(lines) - 3} events")
    page.context.close()


def test_a_verification_shows_how_far_it_is_and_can_be_cancelled(site: Site) -> None:
    page = site.page(f"{AT_STORE}&tab=actions")
    page.route(re.compile("/store/verify"), lambda _route: None)  # an answer that takes as long as it likes
    page.get_by_role("button", name="Verify this store").click()
    form = page.locator("[data-walk=verify]")
    expect(form.locator("output")).to_contain_text(re.compile(r"0 of 4\d events"))
    expect(form.locator("progress")).to_be_visible()
    form.get_by_role("button", name="Cancel").click()
    expect(form.locator("output")).to_have_text("Cancelled.")
    expect(form.get_by_role("button", name="Verify this store")).to_be_visible()
    page.context.close()


def test_events_are_those_of_a_user(site: Site) -> None:
    page = site.page(f"{AT_STORE}&limit=5")
    expect(page.locator("tbody tr").first).to_contain_text("ada")
    page.get_by_label("User", exact=True).fill("nobody")
    expect(page.locator("main")).to_contain_text("No event on this page fits the filter")
    page.get_by_label("User", exact=True).fill("ada")
    expect(page.locator("tbody tr").first).to_be_visible()
    page.locator("tbody a").first.click()
    expect(page.locator("#event")).to_contain_text("ada")
    page.context.close()


@contextmanager
def proxy_that_drops_upgrades(port: int) -> Iterator[int]:
    """Passes requests on without `Upgrade` and `Connection`, as nginx does unless it is told otherwise."""

    class Proxy(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = []
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                if not line.lower().startswith((b"upgrade:", b"connection:")):
                    head.append(line)
            with socket.create_connection(("127.0.0.1", port)) as server:
                server.sendall(b"".join([*head, b"Connection: close\r\n", b"\r\n"]))
                while data := server.recv(65_536):
                    self.wfile.write(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_the_check_names_the_headers_that_a_proxy_drops(site: Site) -> None:
    with proxy_that_drops_upgrades(site.port) as port:
        page = site.page(f"/connect?storeId=a&url=http://127.0.0.1:{port}")
        page.get_by_role("button", name="make a token").click()
        expect(page.locator("#check-token")).to_have_value(re.compile(".{40}"))
        page.get_by_role("button", name="Check").click()
        expect(page.locator("#checked li.refused").last).to_contain_text("lost the headers Upgrade and Connection")
        page.context.close()


def test_what_a_livestore_app_commits_appears_while_it_does(site: Site, tmp_path: Path) -> None:
    if node_packages.missing_programs():
        pytest.skip("LiveStore comes by npm")
    node_packages.install("runtime-0.4")
    site.append("todo-app", event("v1.Before"))
    site.http.post("/api/v1/store/reset", json={"storeId": "todo-app", "confirm": "todo-app"}).raise_for_status()
    page = site.page("/store?storeId=todo-app&tab=live")
    expect(page.locator("#state")).to_contain_text("following")
    app = App("phone-of-ada", tmp_path / "app.log")
    try:
        app.open(site.url, "todo-app", payload={"authToken": site.token()})
        app.commit(*(todo_created(f"t{number}") for number in range(3)), every_ms=1)
        rows = page.locator("#tail-rows tr")
        expect(rows).to_have_count(3)
        expect(rows.first).to_contain_text("Todo t2")
        expect(rows.first).to_contain_text("phone-of-ada")
        page.get_by_role("button", name="Pause").click()
        app.commit(todo_created("t3"), every_ms=1)
        expect(page.locator("#tail-state")).to_contain_text("1 waiting, paused")
        page.get_by_role("button", name="Go on").click()
        expect(rows.first).to_contain_text("Todo t3")
    finally:
        app.close()
    page.context.close()


def test_the_first_link_is_good_once_and_guessing_is_slowed_down(site: Site) -> None:
    """The throttle is not tested by the clock: it counts attempts, and the right password comes after them."""
    told = re.search(r"/first\?token=\S+", (site.folder / "log").read_text(encoding="utf-8"))
    assert told is not None
    page = site.page(told[0], stranger=True)
    page.get_by_label("E-mail address").fill("first@example.org")
    page.get_by_label("Password, at least").fill("correct horse battery staple")
    page.get_by_label("The password again").fill("correct horse battery staple")
    page.get_by_role("button", name="Create the operator").click()
    expect(page.locator(".who")).to_contain_text("first@example.org")
    stranger = site.page(told[0], stranger=True)
    expect(stranger.get_by_role("alert")).to_be_visible()
    expect(stranger.get_by_role("button", name="Create the operator")).to_have_count(0)
    site.go(stranger, "/login")
    alert = stranger.get_by_role("alert")
    for _ in range(40):
        stranger.get_by_label("E-mail address").fill("first@example.org")
        stranger.get_by_label("Password").fill("a wrong guess")
        with stranger.expect_navigation():
            stranger.get_by_role("button", name="Sign in").click()
        if "Too many wrong passwords" in alert.inner_text():
            break
    expect(alert).to_contain_text("Too many wrong passwords")
    page.reload()
    expect(page.locator(".who")).to_contain_text("first@example.org")  # who is in, stays in
    for each in (page, stranger):
        each.context.close()
