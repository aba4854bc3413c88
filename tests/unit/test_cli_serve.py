import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livesync_trio.cli import serve as serve_module
from livesync_trio.cli.main import main
from livesync_trio.config import CONFIG_ENV, SETTINGS, Config, Secret, Setting
from livesync_trio.errors import Kind, StartupError
from livesync_trio.hooks import Hooks

HOOKS = """
def validate_payload(payload, context):
    pass
"""


class FakeApp:
    """Stands in for `livesync_trio.app.running`."""

    def __init__(self) -> None:
        self.started: list[tuple[Config, Hooks]] = []
        self.error: Exception | None = None

    def run(self, config: Config, hooks: Hooks, *, on_ready: Callable[[str, str], None], **_: object) -> None:
        if self.error is not None:
            raise self.error
        self.started.append((config, hooks))
        on_ready(
            f"http://[{config.host}]:{config.port}" if ":" in config.host else f"http://{config.host}:{config.port}",
            "SQLite file /srv/livesync.db",
        )


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FakeApp:
    """The server that would have started; an environment without settings of the developer's own."""
    for name in [CONFIG_ENV, *(env for setting in SETTINGS for env in (setting.env, setting.file_env))]:
        monkeypatch.delenv(name, raising=False)
    fake = FakeApp()
    monkeypatch.setattr(serve_module, "running", fake)
    return fake


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, and the search path as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before


def test_flags_and_environment_reach_the_server(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9001")
    monkeypatch.setenv("AUTH_TOKEN", "c0ffee")
    assert main(["serve", "--host", "::1", "--stall-limit-s", "5", "--cors-origins", "https://a.example"]) == 0
    ((config, hooks),) = app.started
    assert config == Config(
        host="::1", port=9001, auth_token=Secret("c0ffee"), stall_limit_s=5.0, cors_origins=("https://a.example",)
    )
    assert hooks == Hooks()


@pytest.mark.parametrize("setting", [one for one in SETTINGS if not one.only_in_file], ids=lambda one: one.name)
def test_every_setting_has_a_flag_that_the_help_explains(
    setting: Setting, app: FakeApp, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--help"]) == 0
    text = capsys.readouterr().out
    assert setting.flag in text
    assert f"env: {setting.env}" in " ".join(text.split())


def test_the_banner_is_shown_when_it_is_ready(app: FakeApp, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve"]) == 0
    out = capsys.readouterr().out
    assert "SQLite file /srv/livesync.db" in out
    assert "makeWsSync({ url: 'ws://127.0.0.1:8000' })" in out


def test_lines_for_machines_are_not_mixed_with_a_banner(app: FakeApp, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--log-format", "json"]) == 0
    assert capsys.readouterr().out == ""


def test_all_mistakes_at_once_and_nothing_is_started(app: FakeApp, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "x", "--log-level", "loud", "--database-url", "mysql://h/d"]) == 2
    error = capsys.readouterr().err
    assert "3 problems" in error
    assert "--port: 'x' is not a whole number" in error
    assert "--log-level: " in error
    assert "--database-url: " in error
    assert app.started == []


def test_a_network_address_needs_a_secret(app: FakeApp, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert "AUTH_TOKEN" in capsys.readouterr().err
    assert main(["serve", "--host", "0.0.0.0", "--insecure"]) == 0
    assert "ANYONE" in capsys.readouterr().out


def test_a_hook_that_validates_is_enough(app: FakeApp, working_directory: Path) -> None:
    (working_directory / "rules.py").write_text(HOOKS)
    assert main(["serve", "--host", "0.0.0.0", "--hooks", "rules.py"]) == 0
    ((_, hooks),) = app.started
    assert hooks.validate_payload is not None


def test_a_module_in_the_working_directory_is_found(app: FakeApp, working_directory: Path) -> None:
    (working_directory / "rules_beside_the_operator.py").write_text(HOOKS)
    assert main(["serve", "--hooks", "rules_beside_the_operator"]) == 0
    ((_, hooks),) = app.started
    assert hooks.validate_payload is not None


def test_hooks_that_cannot_be_loaded(app: FakeApp, working_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--hooks", "there_is_no_such_module"]) == 2
    error = capsys.readouterr().err
    assert "there_is_no_such_module" in error
    assert "Traceback" not in error
    assert app.started == []


def test_the_database_in_use(app: FakeApp, capsys: pytest.CaptureFixture[str]) -> None:
    app.error = StartupError(Kind.DATABASE_IN_USE, "another process serves livesync.db")
    assert main(["serve"]) == 3
    assert capsys.readouterr().err == "livesync: another process serves livesync.db\n"
