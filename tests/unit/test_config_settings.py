from typing import Any

import attrs
import pytest

from livesync_trio import limits
from livesync_trio.config import SETTINGS, Config, Secret
from livesync_trio.telemetry import LOG_LEVELS


def test_the_defaults_serve_this_machine_only() -> None:
    config = Config()
    assert (config.host, config.port, config.database_url) == ("127.0.0.1", 8000, "sqlite:///livesync.db")
    assert (config.auth_token, config.admin_secret, config.hooks) == (None, None, None)
    assert not config.insecure


def test_limits_come_from_limits() -> None:
    config = Config()
    assert config.max_open_pulls == limits.OPEN_PULLS_PER_CONNECTION_MAX
    assert config.frame_max_bytes == limits.FRAME_MAX_BYTES
    assert config.stall_limit_s == limits.STALL_LIMIT_S
    assert config.handshake_limit_s == limits.HANDSHAKE_LIMIT_S
    assert config.idle_limit_s == limits.IDLE_LIMIT_S
    assert config.hook_limit_s == limits.HOOK_LIMIT_S
    assert config.drain_limit_s == limits.DRAIN_LIMIT_S
    assert config.dormant_after_s == limits.DORMANT_AFTER_S


def test_it_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Config().port = 1  # type: ignore[misc]


def test_every_setting_is_told_in_full_and_has_names_of_its_own() -> None:
    given = [setting for setting in SETTINGS if not setting.only_in_file]
    envs = [name for setting in given for name in (setting.env, setting.file_env)]
    assert len(set(envs)) == len(envs)
    for setting in SETTINGS:
        assert setting.help.endswith(".")
        assert setting.accepts
        assert setting.env == setting.env.upper()


def test_environment_names_are_those_platforms_hand_out() -> None:
    envs = {setting.name: setting.env for setting in SETTINGS}
    assert envs["host"] == "HOST"
    assert envs["port"] == "PORT"
    assert envs["database_url"] == "DATABASE_URL"
    assert envs["auth_token"] == "AUTH_TOKEN"
    assert envs["admin_secret"] == "ADMIN_SECRET"
    assert envs["hooks"] == "LIVESYNC_HOOKS"
    assert envs["log_level"] == "LOG_LEVEL"
    assert envs["log_format"] == "LOG_FORMAT"
    assert envs["stall_limit_s"] == "LIVESYNC_STALL_LIMIT_S"


def test_secrets_have_no_flag_with_the_value() -> None:
    secrets = {setting.name: setting.flag for setting in SETTINGS if setting.secret}
    assert secrets == {
        "auth_token": "--auth-token-file",
        "admin_secret": "--admin-secret-file",
        "admin_password": "--admin-password-file",
        "metrics_token": "--metrics-token-file",
        "jwt_secret": "--jwt-secret-file",
        "backup_s3_secret_key": "--backup-s3-secret-key-file",
    }


def test_log_levels_are_those_of_the_log() -> None:
    (log_level,) = [setting for setting in SETTINGS if setting.name == "log_level"]
    assert log_level.accepts == ", ".join(LOG_LEVELS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", -1),
        ("port", 65536),
        ("host", ""),
        ("host", "http://localhost"),
        ("host", "[::1]"),
        ("database_url", "mysql://h/d"),
        ("auth_token", Secret("")),
        ("auth_token", Secret(" \n")),
        ("hooks", ""),
        ("max_open_pulls", 0),
        ("frame_max_bytes", 1000),
        ("stall_limit_s", 0.0),
        ("idle_limit_s", -1.0),
        ("drain_limit_s", float("inf")),
        ("hook_limit_s", float("nan")),
        ("cors_origins", ("app.example.org",)),
        ("cors_origins", ("https://app.example.org/",)),
        ("cors_origins", ("https://*.example.org",)),
    ],
)
def test_a_program_that_embeds_the_server_is_checked_too(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=r"."):
        Config(**arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "::1"),
        ("host", "fe80::1%eth0"),
        ("port", 0),
        ("cors_origins", ()),
        ("cors_origins", ("*", "https://a.example:8443", "capacitor://localhost", "http://127.0.0.1:3000")),
    ],
)
def test_unusual_values_that_are_right(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {name: value}
    assert getattr(Config(**arguments), name) == value
