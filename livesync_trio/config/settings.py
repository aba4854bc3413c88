"""The settings: each is declared once, here.

Owns the class `Config`. Flags, environment names, TOML keys, the tables in the documentation and `--help` are derived
from its fields by way of `SETTINGS`.
"""

import math
import re
from collections.abc import Callable
from typing import Any, Final, Literal, get_args

import attrs

from livesync_trio import limits
from livesync_trio.config.database_url import sqlite_path
from livesync_trio.config.secret import Secret

_DECLARATION: Final = "livesync"
"""Key in a field's attrs metadata under which its declaration lies."""


LogLevel = Literal["debug", "info", "warning", "error", "critical"]
"""The least severe lines that are logged."""

LogFormat = Literal["console", "json"]
"""How log lines look: for a person at a terminal, or one JSON object a line."""


@attrs.frozen
class Setting:
    """One thing an operator may decide.

    Attributes:
        name: key in the TOML file and field of `Config`.
        env: name of the environment variable.
        type: type of the field.
        default: value when it is not given.
        accepts: what may be given, in words.
        help: what it decides, in one sentence.
        check: raises ValueError for a value of the right type that is not accepted.
    """

    name: str
    env: str
    type: Any
    default: object
    accepts: str
    help: str
    check: Callable[[object], None]

    @property
    def secret(self) -> bool:
        """Whether the value must not be seen. Then it has no flag, because every process sees another's flags."""
        return bool(self.type == Secret | None)

    @property
    def file_name(self) -> str:
        """TOML key that names a file with the value; for secrets only."""
        return f"{self.name}_file"

    @property
    def file_env(self) -> str:
        """Environment variable that names a file with the value; for secrets only."""
        return f"{self.env}_FILE"

    @property
    def flag(self) -> str:
        """The flag of `livesync serve`; for a secret the one that names a file with it."""
        return "--" + (self.file_name if self.secret else self.name).replace("_", "-")

    @property
    def default_text(self) -> str:
        """The default as an operator would write it; empty when there is none."""
        match self.default:
            case None:
                return ""
            case bool():
                return str(self.default).lower()
            case tuple():
                return ",".join(self.default)
            case float():
                return f"{self.default:g}"
            case _:
                return str(self.default)


def _anything(_: Any) -> None:
    """Every value of the type is accepted."""


def _within(low: int, high: int) -> Callable[[int], None]:
    def check(value: int) -> None:
        if not low <= value <= high:
            raise ValueError(f"{value} is out of range")

    return check


def _at_least(low: int) -> Callable[[int], None]:
    def check(value: int) -> None:
        if value < low:
            raise ValueError(f"{value} is too small")

    return check


def _duration(value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{value:g} is not a length of time")


def _host(value: str) -> None:
    if not value:
        raise ValueError("it is empty")
    if re.search(r"[\s/\[\]]", value):
        raise ValueError(f"{value!r} is not an address: write only the name or number, an IPv6 one without brackets")


def _database_url(value: str) -> None:
    sqlite_path(value)


def _not_empty(value: str | Secret | None) -> None:
    text = value.reveal() if isinstance(value, Secret) else value
    if text is not None and not text.strip():
        raise ValueError("it is empty")


def _origins(values: tuple[str, ...]) -> None:
    for value in values:
        if value != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#*]+", value):
            raise ValueError(f"{value!r} is not an origin")


def _declare(
    default: object,
    accepts: str,
    help: str,  # noqa: A002 - the word click uses for the same text
    *,
    env: str | None = None,
    check: Callable[[Any], None] = _anything,
) -> Any:
    """Declare a setting: an attrs field whose metadata holds what the operator is told.

    Args:
        default: value when it is not given.
        accepts: what may be given, in words.
        help: what it decides, in one sentence.
        env: environment variable; `LIVESYNC_<NAME>` unless given.
        check: raises ValueError for a value that is not accepted.
    """
    return attrs.field(
        default=default,
        validator=lambda _, __, value: check(value),
        metadata={_DECLARATION: {"accepts": accepts, "help": help, "env": env, "check": check}},
    )


def _one_of(choice: Any) -> str:
    return ", ".join(get_args(choice))


_SECONDS: Final = "a number of seconds above 0"


@attrs.frozen(kw_only=True)
class Config:
    """Everything an operator decides, checked. Made by `load`, or directly by a program that embeds the server.

    Raises:
        ValueError: a value is not accepted.
    """

    host: str = _declare(
        "127.0.0.1",
        "an IP address or a host name",
        "Address to listen on; `0.0.0.0` and `::` are every address of the machine.",
        env="HOST",
        check=_host,
    )
    port: int = _declare(
        8000, "0 to 65535; 0 takes any free port", "TCP port to listen on.", env="PORT", check=_within(0, 65535)
    )
    database_url: str = _declare(
        "sqlite:///livesync.db",
        "`sqlite:///relative.db` or `sqlite:////absolute/path.db`",
        "Where the events are kept; the file is made when it does not exist.",
        env="DATABASE_URL",
        check=_database_url,
    )
    auth_token: Secret | None = _declare(
        None,
        "any text that is not empty",
        "The token clients must send as `payload.authToken`.",
        env="AUTH_TOKEN",
        check=_not_empty,
    )
    admin_secret: Secret | None = _declare(
        None,
        "any text that is not empty",
        "The secret that allows to inspect and reset stores; without it nobody may.",
        env="ADMIN_SECRET",
        check=_not_empty,
    )
    hooks: str | None = _declare(
        None,
        "the name of a module or the path of a `.py` file",
        "Your own functions that decide who may do what, and observe.",
        env="LIVESYNC_HOOKS",
        check=_not_empty,
    )
    log_level: LogLevel = _declare(
        "info", _one_of(LogLevel), "The least severe lines that are logged.", env="LOG_LEVEL"
    )
    log_format: LogFormat = _declare(
        "console",
        _one_of(LogFormat),
        "Log lines for a person at a terminal, or one JSON object a line.",
        env="LOG_FORMAT",
    )
    insecure: bool = _declare(
        False, "true or false", "Listen on a network although nobody has to prove who they are, or with a known secret."
    )
    max_open_pulls: int = _declare(
        limits.OPEN_PULLS_PER_CONNECTION_MAX,
        "a whole number from 1",
        "Pulls that one connection may have open at a time.",
        check=_at_least(1),
    )
    frame_max_bytes: int = _declare(
        limits.FRAME_MAX_BYTES,
        "a whole number from 1048576, less than which clients send",
        "Largest WebSocket message or HTTP body accepted.",
        check=_at_least(limits.FRAME_MAX_LEAST_BYTES),
    )
    stall_limit_s: float = _declare(
        limits.STALL_LIMIT_S,
        _SECONDS,
        "A peer that takes no bytes for this long is closed.",
        check=_duration,
    )
    handshake_limit_s: float = _declare(
        limits.HANDSHAKE_LIMIT_S,
        _SECONDS,
        "A connection that has not sent a whole request head by then is closed.",
        check=_duration,
    )
    idle_limit_s: float = _declare(
        limits.IDLE_LIMIT_S,
        _SECONDS,
        "A WebSocket from which nothing came for this long, not even a pong, is closed.",
        check=_duration,
    )
    hook_limit_s: float = _declare(
        limits.HOOK_LIMIT_S,
        _SECONDS,
        "A hook that has not answered by then is cut off and its request refused.",
        check=_duration,
    )
    drain_limit_s: float = _declare(
        limits.DRAIN_LIMIT_S,
        _SECONDS,
        "From the signal to stop until what still runs is cut.",
        check=_duration,
    )
    dormant_after_s: float = _declare(
        limits.DORMANT_AFTER_S,
        _SECONDS,
        "Quiet time without connections after which a store leaves memory.",
        check=_duration,
    )
    cors_origins: tuple[str, ...] = _declare(
        ("*",),
        "origins such as `https://app.example.org` separated by commas, or `*` for all",
        "Web pages from these origins may read the answers.",
        check=_origins,
    )


def _setting(field: "attrs.Attribute[Any]") -> Setting:
    declaration = field.metadata[_DECLARATION]
    return Setting(
        name=field.name,
        env=declaration["env"] or f"LIVESYNC_{field.name.upper()}",
        type=field.type,
        default=field.default,
        accepts=declaration["accepts"],
        help=declaration["help"],
        check=declaration["check"],
    )


SETTINGS: Final[tuple[Setting, ...]] = tuple(_setting(field) for field in attrs.fields(Config))
"""Every setting, in the order in which the documentation lists them."""
