"""The whole table of the control plane, asked by everybody: each may do what the role says, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio

from livesync_trio.admin import web
from livesync_trio.admin.declaring import Route
from livesync_trio.admin.routes import ROUTES
from livesync_trio.config import Secret
from livesync_trio.operators.entrance import Entrance
from livesync_trio.operators.roles import Right, Role
from tests.admin.stage import PATIENCE_S, SECRET, STORE, Stage, running
from tests.bad_input.wires import head

PASSWORD = Secret("a long way home")
OWN = {
    "/api/v1/logout",
    "/api/v1/logout/everywhere",
    "/api/v1/whoami",
    "/api/v1/operators/password",
    "/api/v1/operators/sessions",
    "/api/v1/operators/sessions/end",
    "/api/v1/tokens",
    "/api/v1/tokens/create",
    "/api/v1/tokens/revoke",
}
"""What concerns oneself, so that everybody who is in may; what of it is somebody else's, the handler looks at."""
OF_STRANGERS = {"/api/v1/login", "/api/v1/operators/first"}
WITH_PAYLOADS = {"/api/v1/store/events", "/api/v1/store/tail", "/api/v1/store/export", "/api/v1/backups/file"}


def entrance(stage: Stage) -> Entrance:
    assert stage.server.control is not None
    found = stage.server.control.server.entrance
    assert found is not None
    return found


@asynccontextmanager
async def signed_in(stage: Stage, role: Role) -> AsyncIterator[httpx.AsyncClient]:
    """A browser somebody of a role is signed in with."""
    email = f"{role}@example.org"
    if await entrance(stage).operators.find(email) is None:
        await entrance(stage).operators.create(email, PASSWORD, role)
    anew = httpx.Limits(max_keepalive_connections=0)  # who is refused before the body was read is hung up on
    async with httpx.AsyncClient(base_url=stage.control_url, timeout=PATIENCE_S, limits=anew) as browser:
        answer = await browser.post("/api/v1/login", json={"email": email, "password": PASSWORD.reveal()})
        assert answer.status_code == 200, answer.text
        browser.headers["x-csrf-token"] = answer.json()["csrf"]
        yield browser


async def status(browser: httpx.AsyncClient, route: Route) -> tuple[int, str]:
    """What becomes of a request that lacks what it must say: 400 where it would be looked at."""
    answer = await browser.request(route.method, route.path, params={"nonsense": "1"})
    return answer.status_code, answer.text


def test_the_table_says_what_it_should() -> None:
    for route in ROUTES:
        if route.path in OF_STRANGERS:
            assert route.needs is None
        elif route.path in OWN:
            assert route.needs is Right.ENTER
        elif route.path in WITH_PAYLOADS:
            assert route.needs is Right.PAYLOADS
        else:
            assert route.needs in ({Right.LOOK, Right.ADMINISTER} if route.method == "GET" else {*Right} - {Right.LOOK})
            assert route.needs not in (None, Right.ENTER)
    assert Role.VIEWER.rights == {Right.ENTER, Right.LOOK, Right.PAYLOADS}
    assert Role.OPERATOR.rights == {*Role.VIEWER.rights, Right.CHANGE}
    assert Role.OWNER.rights == {*Right}


@pytest.mark.parametrize("viewers_see_payloads", [True, False])
async def test_every_route_by_every_role(viewers_see_payloads: bool) -> None:
    async with running(console=True, viewers_see_payloads=viewers_see_payloads) as stage:
        for role in Role:
            rights = role.rights
            if role is Role.VIEWER and not viewers_see_payloads:
                rights -= {Right.PAYLOADS}
            async with signed_in(stage, role) as browser:
                for route in ROUTES:
                    code, text = await status(browser, route)
                    allowed = route.needs is None or route.needs in rights
                    assert (code == 400) if allowed else (code == 403 and "not-allowed" in text), (role, route, text)
        async with httpx.AsyncClient(base_url=stage.control_url) as stranger:
            for route in ROUTES:
                code, _ = await status(stranger, route)
                assert code == (400 if route.needs is None else 401), route
        for route in ROUTES:
            assert (await status(stage.http, route))[0] == 400, "the secret opens all"


async def test_a_tail_ends_with_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "ADMIN_STREAM_ASKS_S", 0.0)  # with every message, instead of some seconds
    async with running(console=True) as stage:
        await stage.fill(1)
        async with signed_in(stage, Role.OWNER) as browser:
            tail = await stage.wire(stage.control_url)
            cookie = f"Cookie: livesync_session={browser.cookies['livesync_session']}"
            target = "/api/v1/store/tail?storeId=store%2F%C3%B6+1&after=0"
            await tail.send(head(f"GET {target} HTTP/1.1", cookie))
            await tail.read_until(b"id: 1\n")
            assert (await browser.post("/api/v1/logout/everywhere", json={})).status_code == 200
        await stage.fill(1, first=2)
        with trio.fail_after(PATIENCE_S):
            rest = await tail.read_until(b"0\r\n\r\n")
        assert b"id: 2\n" not in rest


async def test_with_the_console_off_there_are_no_operators() -> None:
    async with running() as stage:
        for route in ROUTES:
            if route.console:
                answer = await stage.http.request(route.method, route.path, json={})
                assert answer.status_code == 404
                async with httpx.AsyncClient(base_url=stage.control_url) as stranger:
                    assert (await stranger.request(route.method, route.path)).status_code == 401
        for path in ("/login", "/first"):
            assert (await stage.http.get(path)).status_code == 404
        assert stage.first_link is None


async def test_the_secret_and_operators_open_side_by_side() -> None:
    async with running(console=True) as stage:
        me = await stage.get("/api/v1/whoami")
        assert (me["kind"], me["role"], me["csrf"]) == ("secret", "owner", None)
        made = await stage.post("/api/v1/tokens/create", name="backup", scopes=["look", "payloads"])
        async with httpx.AsyncClient(base_url=stage.control_url) as program:
            program.headers["authorization"] = f"Bearer {made.json()['token']}"
            await stage.fill(1)
            answer = await program.get("/api/v1/store/events", params={"storeId": STORE})
            assert len(answer.json()["events"]) == 1
            stage.server.door.shared.admin_secret = Secret("another")
            assert (await program.get("/api/v1/info")).status_code == 200
            program.headers["authorization"] = f"Bearer {SECRET}"
            assert (await program.get("/api/v1/info")).status_code == 401
