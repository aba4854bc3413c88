import pytest

from livesync_trio.cli.serve import Control, banner, client_line, who_may_connect
from livesync_trio.config import Config, Secret

TOKEN = Secret("canary-8f2a")


def test_it_tells_where_what_and_who() -> None:
    lines = banner(Config(), "http://127.0.0.1:8000", "SQLite file /srv/livesync.db", "anyone on this machine")
    assert "http://127.0.0.1:8000" in lines
    assert "/srv/livesync.db" in lines
    assert "anyone on this machine" in lines
    assert "makeWsSync({ url: 'ws://127.0.0.1:8000' })" in lines


@pytest.mark.parametrize(
    ("url", "pasted"),
    [
        ("http://127.0.0.1:9000", "ws://127.0.0.1:9000"),
        ("http://localhost:8000", "ws://localhost:8000"),
        ("http://[::1]:8000", "ws://[::1]:8000"),
        ("http://0.0.0.0:8000", "ws://127.0.0.1:8000"),
        ("http://[::]:8000", "ws://[::1]:8000"),
    ],
)
def test_the_line_for_the_client_works_when_pasted_on_this_machine(url: str, pasted: str) -> None:
    assert client_line(Config(), url) == f"makeWsSync({{ url: '{pasted}' }})"


def test_with_a_token_the_client_is_told_to_send_one_but_not_which() -> None:
    config = Config(auth_token=TOKEN, admin_secret=TOKEN)
    text = banner(config, "http://127.0.0.1:8000", "memory", who_may_connect(config, has_validate_payload=False))
    assert "syncPayload: { authToken: '…' }" in text
    assert TOKEN.reveal() not in text


@pytest.mark.parametrize(
    ("config", "hook", "words"),
    [
        (Config(), False, "anyone on this machine"),
        (Config(), True, "clients on this machine that your hooks accept"),
        (Config(host="0.0.0.0", auth_token=TOKEN), False, "clients that send AUTH_TOKEN"),
        (
            Config(host="0.0.0.0", auth_token=TOKEN),
            True,
            "clients that send AUTH_TOKEN and that your hooks accept",
        ),
        (Config(host="0.0.0.0", insecure=True), False, "ANYONE who reaches this address (--insecure)"),
    ],
)
def test_who_may_connect(config: Config, hook: bool, words: str) -> None:
    assert who_may_connect(config, hook) == words


def test_a_placeholder_is_warned_of_where_it_is_not_refused() -> None:
    text = banner(Config(auth_token=Secret("insecure-token-change-me")), "http://127.0.0.1:8000", "memory", "whoever")
    assert "AUTH_TOKEN is a placeholder" in text
    assert "insecure-token-change-me" not in text


def test_the_control_plane_is_shown_where_it_is() -> None:
    def shown(control: str | None, **settings: bool) -> str:
        config = Config(admin_secret=TOKEN, admin_port=8100, **settings)  # type: ignore[arg-type]
        return banner(
            config, "http://127.0.0.1:8000", "memory", "anyone", None if control is None else Control(control)
        )

    assert "control" not in shown(None)
    assert "control      http://127.0.0.1:8100\n" in shown("http://127.0.0.1:8100")
    assert "http://127.0.0.1:8100   and   http://127.0.0.1:8000/admin\n" in shown(
        "http://127.0.0.1:8100", admin_public=True
    )
    assert "NOT YET: 127.0.0.1:8100 cannot be listened on" in shown("")
