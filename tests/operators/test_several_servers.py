"""Two servers on one PostgreSQL share operators; a restart forgives nobody; commands work beside a server."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from livesync_trio.cli.main import main
from livesync_trio.config import BadConfig, load
from livesync_trio.errors import RULES, Kind
from tests.docs.pages import blocks, commands
from tests.postgres.server import fresh_schema

from .servers import OWNER, PASSWORD, ROOT, Guesses, Server, refusal, serving


def command(*arguments: str, typed: str = "", code: int = 0, **environment: str) -> str:
    """Run `livesync`; what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "livesync_trio", *arguments],
        input=typed,
        env=os.environ | {"PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def operators(**environment: str) -> dict[str, str]:
    """Who there is, by `livesync operators list`."""
    told = [json.loads(line) for line in command("operators", "list", "--json", **environment).splitlines()]
    return {one["email"]: one["role"] for one in told}


def test_two_servers_share_operators_sessions_and_the_throttle(tmp_path: Path) -> None:
    url = fresh_schema(str(tmp_path))
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    with (
        serving(tmp_path / "here", DATABASE_URL=url) as here,
        serving(tmp_path / "there", DATABASE_URL=url) as there,
    ):
        assert here.first_link is not None
        assert there.first_link is not None
        assert here.make_owner().status_code == 303
        assert there.make_owner().status_code in (400, 403), "somebody was faster, at the other server"
        browser = here.signed_in()
        assert at(there, browser.client.cookies["livesync_session"]) == 200
        made = browser.post("/api/v1/tokens/create", name="t", scopes=["look"]).json()
        with there.browser(authorization=f"Bearer {made['token']}") as program:
            assert program.get("/api/v1/info").status_code == 200
            assert browser.post("/api/v1/tokens/revoke", tokenId=made["tokenId"]).status_code == 200
            refusal(program.get("/api/v1/info"), 401, "unauthenticated")
        command("operators", "add", "ben@example.org", "--role", "viewer", typed=f"{PASSWORD}\n", DATABASE_URL=url)
        assert there.signed_in("ben@example.org").me["role"] == "viewer"
        command("operators", "password", OWNER, typed="quite another way\n", DATABASE_URL=url)
        assert not browser.is_in
        guesses = Guesses()
        for server in (here, there):
            guesses.guess(server)
        guesses.check()
        command("operators", "remove", "ben@example.org", "--yes", DATABASE_URL=url)
        assert operators(DATABASE_URL=url) == {OWNER: "owner"}


def at(server: Server, cookie: str) -> int:
    with server.browser(cookie=f"livesync_session={cookie}") as browser:
        return browser.get("/api/v1/whoami").status_code


def test_a_restart_keeps_sessions_and_forgives_nobody(tmp_path: Path) -> None:
    secret = "canary-of-the-commands"
    with serving(tmp_path, ADMIN_EMAIL=OWNER, ADMIN_PASSWORD=PASSWORD, ADMIN_SECRET=secret) as server:
        assert server.first_link is None
        browser = server.signed_in()
        cookie = browser.client.cookies["livesync_session"]
        beside = {"DATABASE_URL": f"sqlite:///{tmp_path}/livesync.db"}
        exit_code = RULES[Kind.DATABASE_IN_USE].exit_code
        assert exit_code is not None
        said = command("operators", "add", "ben@example.org", typed=f"{PASSWORD}\n", code=exit_code, **beside)
        assert "--url" in said
        assert operators(**beside) == {OWNER: "owner"}
        there = {"LIVESYNC_URL": server.url, "ADMIN_SECRET": secret}
        command("operators", "add", "ben@example.org", "--role", "operator", typed=f"{PASSWORD}\n", **there)
        assert operators(**there) == {OWNER: "owner", "ben@example.org": "operator"}
        command("operators", "password", "ben@example.org", typed="quite another way\n", **there)
        assert server.signed_in("ben@example.org", "quite another way").is_in
        guesses = Guesses()
        guesses.guess(server)
    with serving(tmp_path, ADMIN_EMAIL=OWNER, ADMIN_PASSWORD="never used again") as server:
        assert at(server, cookie) == 200
        guesses.guess(server)
        guesses.check()
        assert server.signed_in().is_in, "the password stays the one it was"
        refusal(server.browser(authorization=f"Bearer {secret}").get("/api/v1/info"), 401, "unauthenticated")


@pytest.mark.parametrize(
    ("arguments", "typed", "told"),
    [
        (("add", "no address"), PASSWORD, "not an e-mail address"),
        (("add", OWNER), "short", "fewer than 12 characters"),
        (("add", OWNER), "change-me-please", "placeholder"),
        (("password", OWNER), PASSWORD, "no such operator"),
        (("remove", OWNER, "--yes"), "", "no such operator"),
        (("remove", OWNER), "", "--yes"),
    ],
)
def test_what_cannot_be_done_is_told(
    tmp_path: Path,
    arguments: tuple[str, ...],
    typed: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{typed}\n"))
    url = f"sqlite:///{tmp_path}/livesync.db"
    assert main(["operators", *arguments, "--database-url", url]) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert typed == "" or typed not in said.err + said.out


def test_the_commands_shown_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/livesync.db")
    shown = [command.text for block in blocks("docs/console.md") for command in commands(block)]
    mine = [text.split()[1:] for text in shown if text.startswith("livesync operators ")]
    assert {arguments[1] for arguments in mine} == {"add", "list", "password", "remove"}
    for arguments in mine:
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PASSWORD}\n"))
        assert main(arguments) == 0, arguments


@pytest.mark.parametrize(
    "environment",
    [
        {"ADMIN_EMAIL": OWNER},
        {"ADMIN_EMAIL": OWNER, "ADMIN_PASSWORD": "change-me-please"},
        {"ADMIN_EMAIL": OWNER, "ADMIN_PASSWORD": "short"},
        {"ADMIN_EMAIL": "nobody", "ADMIN_PASSWORD": PASSWORD},
    ],
    ids=str,
)
def test_an_operator_of_the_configuration_that_is_no_good_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(BadConfig) as refused:
        load({}, {"LIVESYNC_CONSOLE": "true", **environment})
    assert "ADMIN_" in str(refused.value)
    assert environment.get("ADMIN_PASSWORD", "none") not in str(refused.value)


def test_a_server_without_the_console_loads_nothing_of_it() -> None:
    program = (
        "import sys, livesync_trio.app, livesync_trio.admin.plane\n"
        "print([name for name in ('argon2', 'livesync_trio.admin.pages') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
