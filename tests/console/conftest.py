"""One server and one browser for the tests of a file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from .site import Site

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Playwright occupies asyncio until the end of the file, hence not longer."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(browser: Browser) -> Iterator[Site]:
    """A server with a console."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), browser)
        site.start()
        yield site
        site.stop()
        site.http.close()
        assert site.faults == []
