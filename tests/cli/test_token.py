"""`livesync token`: what it makes a server accepts, and what it says of a token is what the server does with it."""

import json
from pathlib import Path

import jwt
import pytest

from livesync_trio.client import SyncError, open_backend_blocking
from tests.archive.conftest import Run
from tests.cli.conftest import Livesync
from tests.conformance.events import chain, python_events
from tests.conformance.servers import ServerProcess

SECRET = "a secret of more than thirty-two bytes"


@pytest.fixture(autouse=True)
def secret(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the server, set after `run` has cleared the developer's own."""
    monkeypatch.setenv("LIVESYNC_JWT_SECRET", SECRET)


def test_a_server_accepts_what_is_made_and_for_these_stores_only(run: Run, tmp_path: Path) -> None:
    code, out, told = run("token", "--user", "ann", "--store", "notes", "--store", "team/*", "--read-store", "public")
    assert code == 0, told
    made = out.strip()
    assert out == f"{made}\n"
    assert "read, write: notes, team/*\n" in told
    assert "read only:   public\n" in told
    server = ServerProcess(tmp_path, f"sqlite:///{tmp_path}/live.db", {"LIVESYNC_JWT_SECRET": SECRET})
    server.start()
    try:
        for store in ("notes", "team/a"):
            with open_backend_blocking(server.url, store_id=store, payload={"authToken": made}) as client:
                client.push(python_events(chain(1, 2)))
        with (
            pytest.raises(SyncError),
            open_backend_blocking(server.url, store_id="others", payload={"authToken": made}) as client,
        ):
            client.push(python_events(chain(1, 2)))
    finally:
        server.stop_if_ours()


def test_a_token_is_explained(run: Run) -> None:
    made = jwt.encode({"sub": "bob", "exp": 32_503_680_000, "org": "acme", "stores": "notes"}, SECRET)
    flags = ("--jwt-stores", "team-{org}/*", "--json")
    code, out, _ = run("token", "--check", made, *flags)
    assert code == 0
    assert json.loads(out) == {
        "user": "bob",
        "expiresAt": "3000-01-01T00:00:10Z",  # with the leeway of ten seconds
        "stores": ["notes", "team-acme/*"],
        "readStores": [],
    }


@pytest.mark.parametrize(
    ("claims", "signed_with", "wrong"),
    [
        ({"sub": "a", "exp": 1}, SECRET, "it has expired"),
        ({"sub": "a", "exp": 32_503_680_000}, SECRET[::-1], "it is not signed with this secret"),
        ({"sub": "a", "exp": 32_503_680_000, "aud": "x"}, SECRET, "its aud is not LIVESYNC_JWT_AUDIENCE"),
        ({"sub": "a"}, SECRET, "it lacks exp"),
    ],
)
def test_what_is_wrong_with_a_token_is_said(claims: dict[str, object], signed_with: str, wrong: str, run: Run) -> None:
    code, out, error = run("token", "--check", jwt.encode(claims, signed_with))
    assert (code, out) == (10, "")
    assert wrong in error


def test_a_token_is_read_from_standard_input_and_a_made_one_has_what_is_asked_for(livesync: Livesync, run: Run) -> None:
    asked = {"LIVESYNC_JWT_ISSUER": "https://id.example", "LIVESYNC_JWT_AUDIENCE": "sync"}
    done = livesync("token", "--claim", "org=acme", "--claim", "admin=true", LIVESYNC_JWT_SECRET=SECRET, **asked)
    assert done.returncode == 0, done.stderr
    assert "no store" in done.stderr
    claims = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"], audience="sync")
    assert (claims["iss"], claims["org"], claims["admin"]) == ("https://id.example", "acme", True)
    assert run("token", "--claim", "nonsense")[0] == 2
    assert livesync("token", "--check", "-", LIVESYNC_JWT_SECRET=SECRET).returncode == 10  # nothing came


def test_without_a_secret_none_is_made(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIVESYNC_JWT_SECRET")
    code, _, error = run("token")
    assert code == 2
    assert "LIVESYNC_JWT_SECRET" in error
