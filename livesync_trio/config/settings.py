"""The settings: each is declared once, here.

Owns the class `Config`. Flags, environment names, TOML keys, the tables in the documentation and `--help` are derived
from its fields by way of `SETTINGS`.
"""

import re
from typing import Final, Literal

import attrs

from livesync_trio import limits
from livesync_trio.config.control import ControlSettings
from livesync_trio.config.database import DatabaseSettings
from livesync_trio.config.database_url import check_database_url
from livesync_trio.config.declaring import (
    SECONDS,
    Setting,
    at_least,
    declare,
    duration,
    host_name,
    is_declared,
    not_empty,
    one_of,
    setting_of,
    within,
)
from livesync_trio.config.fair_use import FairUseSettings
from livesync_trio.config.identity import IdentitySettings
from livesync_trio.config.observing import ObservingSettings
from livesync_trio.config.secret import Secret
from livesync_trio.config.surface import SurfaceSettings

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
"""The least severe lines that are logged."""

LogFormat = Literal["console", "json"]
"""How log lines look: for a person at a terminal, or one JSON object a line."""


def _origins(values: tuple[str, ...]) -> None:
    for value in values:
        if value != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#*]+", value):
            raise ValueError(f"{value!r} is not an origin")


@attrs.frozen(kw_only=True)
class Config(SurfaceSettings, ControlSettings, ObservingSettings, FairUseSettings, IdentitySettings, DatabaseSettings):
    """Everything an operator decides, checked. Made by `load`, or directly by a program that embeds the server.

    Raises:
        ValueError: a value is not accepted.
    """

    host: str = declare(
        "127.0.0.1",
        "an IP address or a host name",
        "Address to listen on; `0.0.0.0` is every IPv4 address of the machine, `::` every address of both families.",
        env="HOST",
        check=host_name,
    )
    port: int = declare(
        8000, "0 to 65535; 0 takes any free port", "TCP port to listen on.", env="PORT", check=within(0, 65535)
    )
    database_url: str = declare(
        "sqlite:///livesync.db",
        "`sqlite:///relative.db`, `sqlite:////absolute/path.db` or `postgresql://user@host/database`",
        "Where the events are kept; an SQLite file is made when it does not exist.",
        env="DATABASE_URL",
        check=check_database_url,
        holds_secret=True,
    )
    auth_token: Secret | None = declare(
        None,
        "any text that is not empty",
        "The token clients must send as `payload.authToken`.",
        env="AUTH_TOKEN",
        check=not_empty,
    )
    admin_secret: Secret | None = declare(
        None,
        "any text that is not empty",
        "The operator's secret: it opens the control plane and the admin messages of 0.3; without it there is neither.",
        env="ADMIN_SECRET",
        check=not_empty,
    )
    hooks: str | None = declare(
        None,
        "the name of a module or the path of a `.py` file",
        "Your own functions that decide who may do what, and observe.",
        env="LIVESYNC_HOOKS",
        check=not_empty,
    )
    log_level: LogLevel = declare("info", one_of(LogLevel), "The least severe lines that are logged.", env="LOG_LEVEL")
    log_format: LogFormat = declare(
        "console",
        one_of(LogFormat),
        "Log lines for a person at a terminal, or one JSON object a line.",
        env="LOG_FORMAT",
    )
    insecure: bool = declare(
        False, "true or false", "Listen on a network although nobody has to prove who they are, or with a known secret."
    )
    max_open_pulls: int = declare(
        limits.OPEN_PULLS_PER_CONNECTION_MAX,
        "a whole number from 1",
        "Pulls that one connection may have open at a time.",
        check=at_least(1),
    )
    frame_max_bytes: int = declare(
        limits.FRAME_MAX_BYTES,
        "a whole number from 1048576, less than which clients send",
        "Largest WebSocket message or HTTP body accepted.",
        check=at_least(limits.FRAME_MAX_LEAST_BYTES),
    )
    stall_limit_s: float = declare(
        limits.STALL_LIMIT_S,
        SECONDS,
        "A peer that takes no bytes for this long is closed.",
        check=duration,
    )
    handshake_limit_s: float = declare(
        limits.HANDSHAKE_LIMIT_S,
        SECONDS,
        "A connection that has not sent a whole request head by then is closed.",
        check=duration,
    )
    idle_limit_s: float = declare(
        limits.IDLE_LIMIT_S,
        SECONDS,
        "A WebSocket from which nothing came for this long, not even a pong, is closed.",
        check=duration,
    )
    hook_limit_s: float = declare(
        limits.HOOK_LIMIT_S,
        SECONDS,
        "A hook that has not answered by then is cut off and its request refused.",
        check=duration,
    )
    drain_limit_s: float = declare(
        limits.DRAIN_LIMIT_S,
        SECONDS,
        "From the signal to stop until what still runs is cut.",
        check=duration,
    )
    dormant_after_s: float = declare(
        limits.DORMANT_AFTER_S,
        SECONDS,
        "Quiet time without connections after which a store leaves memory.",
        check=duration,
    )
    cors_origins: tuple[str, ...] = declare(
        ("*",),
        "origins such as `https://app.example.org` separated by commas, or `*` for all",
        "Web pages from these origins may connect and read the answers; others are refused.",
        check=_origins,
    )

    def given(self, name: str) -> str:
        """A setting as messages name it: its value, and where that was given. Not for secrets."""
        origin = self.origins.get(name)
        return f"{getattr(self, name)} ({'the default' if origin is None else f'given by {origin}'})"

    @property
    def asks_for_tokens(self) -> bool:
        """Whether a client must bring a token, shared or its own."""
        return self.auth_token is not None or self.jwt_secret is not None or self.jwt_keys is not None


SETTINGS: Final[tuple[Setting, ...]] = tuple(
    setting_of(field, everyday=everyday)
    for everyday in (True, False)
    for field in attrs.fields(Config)
    if is_declared(field) and (field.name in Config.__annotations__) is everyday
)
"""Every setting, in the order in which the documentation lists them: what everybody sets comes first."""
