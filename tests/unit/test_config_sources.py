from pathlib import Path
from typing import Any

import pytest

from livesync_trio.config import SETTINGS, BadConfig, Config, Secret, Setting, load
from livesync_trio.errors import RULES

JWKS_URL = "https://id.example/jwks.json"

TEXTS = [setting for setting in SETTINGS if not setting.only_in_file]
"""Settings that have a flag and a variable; the others are tables of the file (`test_config_tables`)."""

EXAMPLES: dict[str, tuple[str, str, Any]] = {
    "host": ("::1", "'::1'", "::1"),
    "webhook_private_hosts": ("a.lan, b.lan", "['a.lan', 'b.lan']", ("a.lan", "b.lan")),
    "port": ("9000", "9000", 9000),
    "database_url": ("sqlite:///x.db", "'sqlite:///x.db'", "sqlite:///x.db"),
    "auth_token": ("c0ffee", "'c0ffee'", Secret("c0ffee")),
    "admin_secret": ("c0ffee", "'c0ffee'", Secret("c0ffee")),
    "hooks": ("my.hooks", "'my.hooks'", "my.hooks"),
    "log_level": (" Warning ", "'warning'", "warning"),
    "log_format": ("JSON", "'json'", "json"),
    "insecure": ("Yes", "true", True),
    "max_open_pulls": ("5", "5", 5),
    "frame_max_bytes": ("2_000_000", "2_000_000", 2_000_000),
    "stall_limit_s": ("1.5", "1.5", 1.5),
    "handshake_limit_s": ("2", "2", 2.0),
    "idle_limit_s": ("3e1", "3e1", 30.0),
    "hook_limit_s": ("4", "4", 4.0),
    "drain_limit_s": ("5", "5", 5.0),
    "dormant_after_s": ("6", "6", 6.0),
    "cors_origins": (
        "https://a.example, https://b.example,",
        "['https://a.example', 'https://b.example']",
        ("https://a.example", "https://b.example"),
    ),
    "listen_url": ("postgresql://h/d", "'postgresql://h/d'", "postgresql://h/d"),
    "database_wait_s": ("7.5", "7.5", 7.5),
    "jwt_secret": ("k" * 32, repr("k" * 32), Secret("k" * 32)),
    "jwt_keys": (JWKS_URL, repr(JWKS_URL), JWKS_URL),
    "jwt_algorithms": ("RS256, EdDSA", "['RS256', 'EdDSA']", ("RS256", "EdDSA")),
    "jwt_issuer": ("https://id.example/", "'https://id.example/'", "https://id.example/"),
    "jwt_audience": ("sync", "'sync'", "sync"),
    "jwt_leeway_s": ("0", "0", 0.0),
    "jwt_principal_claim": ("email", "'email'", "email"),
    "jwt_stores_claim": ("https://a.example/stores", "'https://a.example/stores'", "https://a.example/stores"),
    "jwt_read_stores_claim": ("reads", "'reads'", "reads"),
    "jwt_stores": ("team-{org}, u/{sub}/*", "['team-{org}', 'u/{sub}/*']", ("team-{org}", "u/{sub}/*")),
    "jwt_read_stores": ("public", "['public']", ("public",)),
    "auth_cookie": ("session", "'session'", "session"),
    "store_user": ("on", "true", True),
    "rate_principal": ("pushes=100/min", "['pushes=100/min']", ("pushes=100/min",)),
    "rate_address": ("off", "'off'", ("off",)),
    "rate_store": ("bytes=1_000/s,events=5/h", "'bytes=1_000/s,events=5/h'", ("bytes=1_000/s", "events=5/h")),
    "max_principal_connections": ("7", "7", 7),
    "max_address_connections": ("0", "0", 0),
    "max_principal_stores": ("3", "3", 3),
    "max_store_events": ("4", "4", 4),
    "max_store_bytes": ("5", "5", 5),
    "metrics_token": ("t0ken", "'t0ken'", Secret("t0ken")),
    "traces": ("on", "true", True),
    "admin_host": ("::1", "'::1'", "::1"),
    "admin_port": ("9100", "9100", 9100),
    "admin_public": ("on", "true", True),
    "console": ("true", "true", True),
    "admin_email": ("ann@example.org", "'ann@example.org'", "ann@example.org"),
    "admin_password": ("a long way home", "'a long way home'", Secret("a long way home")),
    "viewers_see_payloads": ("false", "false", False),
    "console_session_s": ("3600", "3600", 3600.0),
    "admin_origins": ("https://a.example", "['https://a.example']", ("https://a.example",)),
    "trusted_proxies": ("loopback,10.0.0.0/8", "['loopback', '10.0.0.0/8']", ("loopback", "10.0.0.0/8")),
    "proxy_protocol": ("true", "true", True),
    "forwarded_header": ("Forwarded", "'forwarded'", "forwarded"),
    "tls_cert": (__file__, repr(__file__), __file__),
    "tls_key": (__file__, repr(__file__), __file__),
    "store_id_pattern": ("[a-z]+", "'[a-z]+'", "[a-z]+"),
    "store_id_max_bytes": ("100", "100", 100),
    "audit_log": ("-", "'-'", "-"),
    "audit_required": ("true", "true", True),
    "api": ("on", "true", True),
    "event_schemas": ("schemas.json", "'schemas.json'", "schemas.json"),
    "event_schemas_pushes": ("log", "'log'", "log"),
    "event_schemas_unknown": ("refuse", "'refuse'", "refuse"),
    "backup_dir": ("/srv/backups", "'/srv/backups'", "/srv/backups"),
    "backup_every_s": ("3600", "3600", 3600.0),
    "backup_keep": ("7", "7", 7),
    "backup_s3_endpoint": ("https://s3.example:9000", "'https://s3.example:9000'", "https://s3.example:9000"),
    "backup_s3_region": ("eu-central-1", "'eu-central-1'", "eu-central-1"),
    "backup_s3_access_key": ("key", "'key'", "key"),
    "backup_s3_secret_key": ("s3-secret", "'s3-secret'", Secret("s3-secret")),
}
"""Of every setting: text for flag and environment, TOML, and the value they mean."""

COMPANIONS = {
    "jwt_algorithms": {"LIVESYNC_JWT_KEYS": JWKS_URL},
    "auth_cookie": {"LIVESYNC_CORS_ORIGINS": "https://a.example"},
    "tls_cert": {"LIVESYNC_TLS_KEY": __file__},
    "backup_s3_access_key": {"LIVESYNC_BACKUP_S3_SECRET_KEY": "s3-secret"},
    "backup_s3_secret_key": {"LIVESYNC_BACKUP_S3_ACCESS_KEY": "key"},
    "tls_key": {"LIVESYNC_TLS_CERT": __file__},
    "admin_public": {"ADMIN_SECRET": "c0ffee"},
}
"""What must be given beside a setting for it to make sense."""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """Where the configuration file of a test goes."""
    return tmp_path / "livesync.toml"


def problems_of(flags: dict[str, Any], environ: dict[str, str]) -> list[str]:
    with pytest.raises(BadConfig) as error:
        load(flags, environ)
    assert RULES[error.value.kind].exit_code == 2
    assert all(str(problem) in str(error.value) for problem in error.value.problems)
    return [str(problem) for problem in error.value.problems]


def test_there_is_an_example_of_every_setting() -> None:
    assert sorted(EXAMPLES) == sorted(setting.name for setting in TEXTS)


def test_nothing_given_is_the_defaults() -> None:
    assert load({}, {}) == Config()


@pytest.mark.parametrize("setting", TEXTS, ids=lambda setting: setting.name)
def test_every_setting_from_every_source(setting: Setting, toml: Path) -> None:
    text, toml_text, value = EXAMPLES[setting.name]
    others = COMPANIONS.get(setting.name, {})
    toml.write_text(f"{setting.name} = {toml_text}\n")
    assert getattr(load({}, {setting.env: text} | others), setting.name) == value
    assert getattr(load({"config": str(toml)}, others), setting.name) == value
    assert getattr(load({}, {"LIVESYNC_CONFIG": str(toml)} | others), setting.name) == value
    if not setting.secret:
        assert getattr(load({setting.name: text}, others), setting.name) == value


def test_flag_beats_environment_beats_file_beats_default(toml: Path) -> None:
    toml.write_text("port = 1\n")
    config, port = {"LIVESYNC_CONFIG": str(toml)}, {"PORT": "2"}
    assert load({}, {}).port == 8000
    assert load({}, config).port == 1
    assert load({}, config | port).port == 2
    assert load({"port": "3"}, config | port).port == 3


def test_a_value_that_is_beaten_is_not_looked_at(toml: Path) -> None:
    toml.write_text("port = 'nonsense'\n")
    assert load({"port": "3"}, {"PORT": "nonsense", "LIVESYNC_CONFIG": str(toml)}).port == 3


def test_a_flag_that_was_not_given_is_none() -> None:
    assert load({"port": None, "insecure": None, "config": None}, {"PORT": "2"}).port == 2


def test_empty_variables_are_not_set() -> None:
    environ = {name: "" for setting in SETTINGS for name in (setting.env, setting.file_env)}
    assert load({}, environ | {"LIVESYNC_CONFIG": ""}) == Config()


def test_the_flag_that_is_only_there_or_not() -> None:
    assert load({"insecure": True}, {"LIVESYNC_INSECURE": "0"}).insecure
    assert not load({}, {"LIVESYNC_INSECURE": "off"}).insecure


def test_all_problems_are_told_at_once_with_source_and_what_is_accepted(toml: Path) -> None:
    toml.write_text("prot = 1\nidle_limit_s = '30'\nadmin_secret = 5\n[server]\n")
    problems = problems_of(
        {"config": str(toml), "port": "eighty", "hooks": ""},
        {
            "HOST": "http://x",
            "LOG_LEVEL": "loud",
            "LIVESYNC_INSECURE": "maybe",
            "LIVESYNC_STALL_LIMIT_S": "-1",
            "LIVESYNC_HOOK_LIMIT_S": "soon",
        },
    )
    assert sorted(problems) == sorted(
        [
            f"prot in {toml}: there is no such setting; did you mean port?",
            f"server in {toml}: there is no such setting",
            f"idle_limit_s in {toml}: '30' is not a number (accepted: a number of seconds above 0)",
            f"admin_secret in {toml}: it is not a text (accepted: any text that is not empty)",
            "--port: 'eighty' is not a whole number (accepted: 0 to 65535; 0 takes any free port)",
            "--hooks: it is empty (accepted: the name of a module or the path of a .py file)",
            "HOST: 'http://x' is not an address: write only the name or number, an IPv6 one without brackets "
            "(accepted: an IP address or a host name)",
            "LOG_LEVEL: 'loud' is none of them (accepted: debug, info, warning, error, critical)",
            "LIVESYNC_INSECURE: 'maybe' is neither true nor false (accepted: true or false)",
            "LIVESYNC_HOOK_LIMIT_S: 'soon' is not a number (accepted: a number of seconds above 0)",
            "LIVESYNC_STALL_LIMIT_S: -1 is not a length of time (accepted: a number of seconds above 0)",
        ]
    )


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("port = '8000'", "'8000' is not a whole number"),
        ("port = true", "True is not a whole number"),
        ("port = 8000.0", "8000.0 is not a whole number"),
        ("host = 127", "127 is not a text"),
        ("insecure = 1", "1 is not true or false"),
        ("insecure = 'true'", "'true' is not true or false"),
        ("stall_limit_s = true", "True is not a number"),
        ("stall_limit_s = nan", "nan is not a length of time"),
        ("log_level = 3", "3 is none of them"),
        ("cors_origins = [1]", "[1] is not an array of texts"),
        ("cors_origins = {}", "{} is not an array of texts"),
        ("cors_origins = ['example.org']", "'example.org' is not an origin"),
        ("auth_token_file = 1", "1 is not a text"),
        ("host = '" + "x/" * 100 + "'", "is not an address"),
    ],
)
def test_types_of_the_file_are_not_bent(line: str, wrong: str, toml: Path) -> None:
    toml.write_text(line)
    (problem,) = problems_of({"config": str(toml)}, {})
    assert wrong in problem


def test_origins_in_the_file_may_be_one_text_too(toml: Path) -> None:
    toml.write_text("cors_origins = 'https://a.example, https://b.example'")
    assert load({"config": str(toml)}, {}).cors_origins == ("https://a.example", "https://b.example")


def test_no_web_page_at_all_can_be_said_in_the_file(toml: Path) -> None:
    toml.write_text("cors_origins = []")
    assert load({"config": str(toml)}, {}).cors_origins == ()


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (None, "no such file"),
        (b"port = \n", "line 1"),
        (b"\xff\xfe", "not UTF-8"),
        (b"port = 1\nport = 2\n", "overwrite"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_problem_of_all(content: bytes | None, wrong: str, toml: Path) -> None:
    if content is not None:
        toml.write_bytes(content)
    named, port = problems_of({}, {"LIVESYNC_CONFIG": str(toml), "PORT": "x"})
    assert named.startswith("LIVESYNC_CONFIG: ")
    assert wrong in named
    assert port.startswith("PORT: ")


class TestSecretsInFiles:
    @pytest.fixture
    def token(self, tmp_path: Path) -> Path:
        path = tmp_path / "token"
        path.write_bytes("töken".encode() + b"\n")
        return path

    def test_by_flag_environment_and_file(self, token: Path, toml: Path) -> None:
        toml.write_text(f"auth_token_file = '{token}'")
        for flags, environ in (
            ({"auth_token_file": str(token)}, {}),
            ({}, {"AUTH_TOKEN_FILE": str(token)}),
            ({}, {"LIVESYNC_CONFIG": str(toml)}),
        ):
            assert load(flags, environ).auth_token == Secret("töken")

    def test_line_end_of_windows(self, token: Path) -> None:
        token.write_bytes(b"token\r\n")
        assert load({}, {"ADMIN_SECRET_FILE": str(token)}).admin_secret == Secret("token")

    def test_the_nearer_source_wins(self, token: Path) -> None:
        config = load({"auth_token_file": str(token)}, {"AUTH_TOKEN": "other"})
        assert config.auth_token == Secret("töken")

    def test_both_in_one_source_is_a_problem(self, token: Path) -> None:
        (problem,) = problems_of({}, {"AUTH_TOKEN": "canary", "AUTH_TOKEN_FILE": str(token)})
        assert problem == "AUTH_TOKEN_FILE: AUTH_TOKEN is given too (accepted: one of the two)"

    @pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff", b"x" * 100_000])
    def test_a_file_without_a_secret_in_it(self, content: bytes | None, token: Path) -> None:
        token.unlink()
        if content is not None:
            token.write_bytes(content)
        (problem,) = problems_of({}, {"AUTH_TOKEN_FILE": str(token)})
        assert problem.startswith("AUTH_TOKEN_FILE: ")

    def test_the_url_of_a_database_may_lie_in_a_file_because_of_its_password(self, token: Path, toml: Path) -> None:
        token.write_text("postgresql://u:canary@h/d\n")
        toml.write_text(f"database_url_file = '{token}'")
        for environ in ({"DATABASE_URL_FILE": str(token)}, {"LIVESYNC_CONFIG": str(toml)}):
            assert load({}, environ).database_url == "postgresql://u:canary@h/d"
        token.write_text("mysql://u:canary@h/d\n")
        (problem,) = problems_of({}, {"DATABASE_URL_FILE": str(token)})
        assert problem.startswith("DATABASE_URL_FILE: it is not a sqlite URL")
        assert "canary" not in problem

    def test_a_device_does_not_hold_us_up(self) -> None:
        (problem,) = problems_of({}, {"AUTH_TOKEN_FILE": "/dev/zero"})
        assert "65536 bytes" in problem


def test_no_message_repeats_a_secret_or_a_database_password(toml: Path) -> None:
    toml.write_text("admin_secret = ['canary']")
    environ = {"AUTH_TOKEN": " ", "DATABASE_URL": "postgres:u:canary@h/d", "LIVESYNC_CONFIG": str(toml)}
    problems = problems_of({}, environ)
    assert len(problems) == 3
    assert "canary" not in "".join(problems)
