"""The todo app of examples/todo in real browsers: LiveStore's web adapter, built by Vite, synced by our server."""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.cli.conftest import environment
from tests.conformance.node_packages import CLIENTS
from tests.conformance.servers import ServerProcess
from tests.console.conftest import CHROMIUM

TODO = Path(__file__).parents[2] / "examples" / "todo"
PACKAGES = CLIENTS / "runtime-0.4"
LIMIT_S = 180
LIMIT_MS = LIMIT_S * 1000


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and says nothing of it."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path, f"sqlite:///{tmp_path}/live.db")
    server.start()
    yield server
    server.stop_if_ours()


@pytest.fixture
def app(server: ServerProcess, tmp_path: Path, node_packages_ready: None) -> Iterator[str]:
    """The built app, at an origin of this machine."""
    folder = tmp_path / "todo"
    shutil.copytree(TODO, folder, ignore=shutil.ignore_patterns("node_modules", "data", "dist"))
    (folder / "node_modules").symlink_to(PACKAGES / "node_modules")
    built = subprocess.run(
        ["node", "node_modules/vite/bin/vite.js", "build"],
        cwd=folder,
        env=environment() | {"VITE_SYNC_URL": server.url.replace("http", "ws", 1)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    handler = functools.partial(Quiet, directory=str(folder / "dist"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{files.server_port}/"
        files.shutdown()
        thread.join()


@pytest.fixture
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(page: Page, url: str, status: str) -> Page:
    page.goto(url)
    page.wait_for_selector(f"[role=status]:has-text('{status}')", timeout=LIMIT_MS)
    return page


def test_two_browsers_and_a_second_tab_share_the_list(app: str, browser: Browser) -> None:
    ann = opened(browser.new_context().new_page(), app, "Nothing to do.")
    bob = opened(browser.new_context().new_page(), app, "Nothing to do.")
    ann.fill("input[name=text]", "Buy milk")
    ann.keyboard.press("Enter")
    bob.wait_for_selector("li:has-text('Buy milk')", timeout=LIMIT_MS)
    bob.check("li input")
    ann.wait_for_selector("li .done:has-text('Buy milk')", timeout=LIMIT_MS)
    tab = opened(ann.context.new_page(), app, "0 to do")
    assert tab.inner_text("li").strip() == "Buy milk"
