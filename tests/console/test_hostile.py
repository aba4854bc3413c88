"""What strangers write is shown as text: a corpus through everything that a client chooses, in a real browser."""

from __future__ import annotations

from urllib.parse import quote_plus

import pytest
from playwright.sync_api import expect

from livesync_trio.client import open_backend_blocking

from .site import PATIENCE_MS, Site, event

expect.set_options(timeout=PATIENCE_MS)

CORPUS = (
    "<script>window.ran='script'</script>",
    "<img src=x onerror=\"window.ran='img'\">",
    "\"><svg onload=window.ran='svg'>",
    "'-window.ran='quote'-'",
    "javascript:window.ran='url'",
    "</title><script>window.ran='title'</script>",
    "</textarea></pre><iframe srcdoc='<script>parent.ran=1</script>'>",
    "{{7*7}}{% raw %}${window.ran='template'}",
    "<template hx type=partial hx-target=body><p hx-get=/x hx-trigger=load>",
    '<p hx-on:load="window.ran=\'hx\'" hx-get="/api/v1/info" hx-trigger="load">',
    '<a href="/x" data-api="/api/v1/store/reset">',
    "\u202egnp.exe\u2028\u2029\u0007",
)
DATA = {text: [text, {"text": text}] for text in CORPUS}


@pytest.fixture(scope="module", autouse=True)
def written(site: Site) -> None:
    """The corpus as names of stores and events, as args, clients and sessions."""
    for text in CORPUS:
        store = f"x{text}"
        site.append(store, event(text, DATA, text, text), event(text, {text: 1}, text, text))
        site.http.post("/api/v1/access/explain", json={"storeId": text, "token": text, "origin": text})


def test_nothing_that_a_stranger_wrote_runs(site: Site) -> None:
    page = site.page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    paths = ["/stores", "/connections", "/log?level=debug", "/log?tab=audit"]
    for text in CORPUS:
        typed = quote_plus(text)
        paths += [f"/store?storeId=x{typed}", f"/connect?storeId={typed}&url={typed}", f"/log?containing={typed}"]
    at = f"storeId={quote_plus('x' + CORPUS[0])}"
    paths += [f"/store?{at}&tab=sessions", f"/store/event?{at}&seqNum=1", f"/store/compare?{at}&a=1&b=2"]
    for path in paths:
        site.go(page, path)
        expect(page.locator("main")).to_be_visible()
        assert page.evaluate("window.ran") is None, path
        assert page.evaluate("document.querySelectorAll('main script, main iframe, main svg, main img').length") == 0
        strange = page.evaluate(
            "[...document.querySelectorAll('main a')].filter(a => !a.href.startsWith('http')).length"
        )
        assert strange == 0, path
    assert not [url for url in asked if url.endswith("/x")]
    assert all(url.startswith(site.control) for url in asked)
    page.context.close()


def test_what_comes_live_is_text_too(site: Site) -> None:
    text = CORPUS[1]
    page = site.page(f"/store?storeId={quote_plus('x' + text)}&tab=live")
    expect(page.locator("#state")).to_contain_text("following")
    site.append(f"x{text}", *(event(each, DATA, each, each) for each in CORPUS))
    expect(page.locator("#tail-rows tr")).to_have_count(len(CORPUS))
    expect(page.locator("#tail-rows")).to_contain_text(text)
    assert page.evaluate("window.ran") is None
    assert page.locator("#tail-rows img, #tail-rows script, #tail-rows svg").count() == 0
    page.context.close()


def test_parts_that_are_fetched_later_are_text_too(site: Site) -> None:
    """A swapped part goes through htmx, which would run what it took for markup."""
    text = CORPUS[0]
    with open_backend_blocking(site.url, store_id=text, payload={"authToken": site.token()}):
        page = site.page(f"/store?storeId={quote_plus('x' + text)}")
        page.get_by_role("link", name="1", exact=True).click()
        expect(page.locator("#event .tree")).to_contain_text("window.ran")
        page.get_by_label("Name", exact=True).fill(text)
        expect(page.locator(".events tbody tr")).to_have_count(2)
        assert page.evaluate("window.ran") is None
        page.context.close()
