"""Takes the pictures of the console for docs/console.md: each screen in both themes, of a server with made-up stores.

    .venv/bin/python -m scripts.console_pictures [--into FOLDER] [--width 1280] [SCREEN …]

Needs Chromium (`--chromium`, /usr/bin/chromium unless said otherwise) and what `scripts/venv dev` installs.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.sync_api import Page, ViewportSize, sync_playwright

from livesync_trio.client import Event, open_backend_blocking

ROOT: Final = Path(__file__).resolve().parents[1]
SECRET: Final = "the-secret-of-these-pictures"
STORES: Final = (
    *(("team/roadmap", 240), ("team/notes", 1800), ("workspace-7f3a/tickets", 96)),
    *(("demo", 12), ("kiosk/42", 3)),
)
SCREENS: Final = {
    "overview": "/",
    "stores": "/stores",
    "store": "/store?storeId=team/roadmap",
    "live": "/store?storeId=team/roadmap&tab=live",
    "growth": "/store?storeId=team/notes&tab=growth",
    "sessions": "/store?storeId=team/roadmap&tab=sessions",
    "actions": "/store?storeId=demo&tab=actions",
    "event": "/store/event?storeId=team/roadmap&seqNum=238",
    "compare": "/store/compare?storeId=team/roadmap&a=235&b=238",
    "connections": "/connections",
    "connect": "/connect?storeId=demo",
    "access": "/access",
    "configuration": "/configuration?only=given",
    "log": "/log?level=info&limit=8",
    "audit": "/log?tab=audit",
    "backups": "/backups",
    "webhooks": "/webhooks?webhook=search-index",
    "operators": "/operators",
    "account": "/account",
}
_LISTENS_S: Final = 60.0


@contextmanager
def server(folder: Path, **more: str) -> Iterator[tuple[str, str]]:
    """A server in a process of its own: where clients reach it, and its control plane. `more`: of its environment."""
    settings = {
        "ADMIN_SECRET": SECRET,
        "LIVESYNC_CONSOLE": "true",
        "LIVESYNC_API": "true",
        "LIVESYNC_JWT_SECRET": "x" * 32,
        "PORT": "8000",
        "ADMIN_PORT": "8100",
        "LIVESYNC_BACKUP_DIR": "backups",
        "LIVESYNC_WEBHOOK_PRIVATE_HOSTS": "127.0.0.1",
        **more,
    }
    settings |= {name: os.environ[name] for name in ("PORT", "ADMIN_PORT") if name in os.environ}
    program = [sys.executable, "-m", "livesync_trio", "serve"]
    path = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(program, env=settings | path, cwd=folder, stdout=log, stderr=log)
    urls = f"http://127.0.0.1:{settings['PORT']}", f"http://127.0.0.1:{settings['ADMIN_PORT']}"
    try:
        until = time.monotonic() + _LISTENS_S
        while True:
            try:
                httpx.get(urls[0] + "/health")
                break
            except httpx.TransportError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        yield urls
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def fill(url: str, token: str) -> None:
    """Made-up events in made-up stores."""
    with httpx.Client(headers={"authorization": f"Bearer {token}"}) as http:
        for store, count in STORES:
            for first in range(0, count, 100):
                events = [_event(number) for number in range(first, min(first + 100, count))]
                path = f"{url}/v1/stores/{store.replace('/', '%2F')}/events"
                http.post(path, json={"events": events}).raise_for_status()


def operate(control: str, headers: Mapping[str, str]) -> None:
    """A webhook whose receiver is down, two operators, a token for a program."""
    asked: dict[str, dict[str, Any]] = {
        "webhooks/define": {"id": "search-index", "url": "http://127.0.0.1:9/hook", "secret": f"whsec_{'c2Vj' * 8}"},
        "operators/create": {"email": "ann@example.org", "password": "of these pictures only", "role": "owner"},
        "tokens/create": {"name": "a dashboard", "scopes": ["look"]},
    }
    asked["webhooks/define"]["start"] = "beginning"
    for path, body in asked.items():
        httpx.post(f"{control}/api/v1/{path}", json=body, headers=dict(headers)).raise_for_status()
    more = {"email": "ben@example.org", "password": "of these pictures only", "role": "viewer"}
    httpx.post(f"{control}/api/v1/operators/create", json=more, headers=dict(headers)).raise_for_status()


def _event(number: int) -> dict[str, Any]:
    kinds = ("v1.TaskCreated", "v1.TaskRenamed", "v1.TaskMoved", "v1.CommentAdded")
    data = {
        "id": f"task-{number // 4:03d}",
        "title": ("Ship the console", "Call the printer", "Plan the offsite")[number % 3],
        "position": {"column": ("todo", "doing", "done")[number % 3], "rank": number * 1.5},
        "labels": ["urgent", "ops"][: number % 3],
        "by": {"name": "Ada", "at": 1_767_225_600_000 + number},
    }
    client = ("web-4b1c", "phone-9e2d", "import")[number % 3]
    return {"type": kinds[number % 4], "data": data, "clientId": client, "sessionId": f"s{number // 40}"}


def take(page: Page, name: str, address: str, file: Path, *, post: Callable[[int], None]) -> None:
    """One picture. `post`: stores an event, for screens that show what comes."""
    page.goto(address)
    if name == "live":
        page.wait_for_selector("#state.well")
        for number in range(9):
            post(number)
    if name == "access":
        page.get_by_label("Store", exact=True).fill("team/roadmap")
        page.get_by_role("button", name="Make a token").click()
        page.wait_for_selector("#made:visible")
        page.get_by_role("button", name="Decide").click()
        page.wait_for_selector("#explained li")
    if name == "connect":
        page.get_by_role("button", name="make a token").click()
        page.wait_for_timeout(1000)
        page.get_by_role("button", name="Check").click()
        page.wait_for_selector("#checked li")
    page.wait_for_timeout(1500 if name in ("overview", "live") else 400)
    page.screenshot(path=file)
    print(f"{file} {file.stat().st_size // 1000} kB")


def main() -> None:
    """Take all, or those that are named."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("screens", nargs="*")
    options.add_argument("--into", type=Path, default=ROOT / "docs" / "assets" / "console")
    options.add_argument("--chromium", default="/usr/bin/chromium")
    options.add_argument("--width", type=int, default=920)
    options.add_argument("--height", type=int, default=580)
    options.add_argument("--busy", type=float, default=20.0, help="seconds of work before the first picture")
    given = options.parse_args()
    given.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as (url, control):
        headers = {"authorization": f"Bearer {SECRET}"}
        answer = httpx.post(
            f"{control}/api/v1/access/token", json={"user": "ada", "stores": ["*"]}, headers=headers
        ).raise_for_status()
        token = answer.json()["token"]
        fill(url, token)
        operate(control, headers)
        with (
            sync_playwright() as playwright,
            open_backend_blocking(url, store_id="team/roadmap", payload={"authToken": token}) as roadmap,
            open_backend_blocking(url, store_id="demo", payload={"authToken": token}),
        ):
            roadmap.push([Event(241, 240, "v1.TaskMoved", b'{"id":"task-059","position":3}', "web-4b1c", "s6")])
            browser = playwright.chromium.launch(executable_path=given.chromium)
            size = ViewportSize(width=given.width, height=given.height)
            page = browser.new_page(viewport=size, extra_http_headers=headers)
            page.on("console", lambda said: print(f"  {said.type}: {said.text}") if said.type == "error" else None)
            page.on("pageerror", lambda error: print(f"  {error}"))
            until = time.monotonic() + given.busy
            with httpx.Client(headers={"authorization": f"Bearer {token}"}) as http:
                at = 0
                while time.monotonic() < until:
                    at += 1
                    http.post(f"{url}/v1/stores/team%2Fnotes/events", json=_event(at))
                    if at % 40 == 0:
                        http.post(f"{url}/v1/stores/demo/events", json={"events": []})
                    time.sleep(0.02 + 0.05 * ((at // 60) % 3))

            def post(number: int) -> None:
                bearer = {"authorization": f"Bearer {token}"}
                httpx.post(f"{url}/v1/stores/team%2Froadmap/events", json=_event(number), headers=bearer)

            for theme in ("light", "dark"):
                page.emulate_media(color_scheme=theme)
                for screen, path in SCREENS.items():
                    if not given.screens or screen in given.screens:
                        take(page, screen, control + path, given.into / f"{screen}-{theme}.png", post=post)
            browser.close()


if __name__ == "__main__":
    main()
