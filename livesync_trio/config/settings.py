"""The settings: each is declared once, here and in `fair_use` and `identity`.

Owns the class `Config`. Flags, environment names, TOML keys, the tables in the documentation and `--help` are derived
from its fields by way of `SETTINGS`; its base classes are the groups in which the documentation explains them.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import attrs

from livesync_trio import limits
from livesync_trio.config.database_url import check_database_url, check_postgresql_url
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
from livesync_trio.config.secret import Secret

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
"""The least severe lines that are logged."""

LogFormat = Literal["console", "json"]
"""How log lines look: for a person at a terminal, or one JSON object a line."""


def _origins(values: tuple[str, ...]) -> None:
    _exact_origins(tuple(value for value in values if value != "*"))


# --- groups ---------------------------------------------------------------------------------------------------------


ForwardedHeader = Literal["x-forwarded-for", "forwarded"]
"""The one header in which the proxy in front says for whom it asks."""

_LOOPBACK: Final = "loopback"


def networks(values: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """The networks that texts name. Raises ValueError for one that names none."""
    found: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for value in values:
        for text in ("127.0.0.0/8", "::1/128") if value == _LOOPBACK else (value,):
            try:
                found.append(ipaddress.ip_network(text))
            except ValueError:
                raise ValueError(f"{value!r} is neither an address nor a network") from None
    return tuple(found)


def _networks(values: tuple[str, ...]) -> None:
    networks(values)


def _pattern(value: str | None) -> None:
    not_empty(value)
    if value is not None:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"it is not a regular expression: {error}") from None


@attrs.frozen(kw_only=True, slots=False)  # several of these are one class in the end
class SurfaceSettings:
    """What stands between the network and the stores. See `docs/hardening.md`."""

    trusted_proxies: tuple[str, ...] = declare(
        (),
        "addresses and networks such as `10.0.0.0/8` separated by commas; `loopback` for this machine",
        "Proxies that are believed when they say for whom they ask.",
        check=_networks,
    )
    forwarded_header: ForwardedHeader = declare(
        "x-forwarded-for",
        one_of(ForwardedHeader),
        "The header in which they say it; the other one is never looked at.",
    )
    tls_cert: str | None = declare(
        None, "the path of a PEM file", "Certificate chain; with it the server speaks TLS itself.", check=not_empty
    )
    tls_key: str | None = declare(
        None, "the path of a PEM file", "Key of the certificate. Both are read again on SIGHUP.", check=not_empty
    )
    store_id_pattern: str | None = declare(
        None, "a regular expression", "What a store id as a whole must look like.", check=_pattern
    )
    store_id_max_bytes: int = declare(
        limits.STORE_ID_MAX_BYTES,
        f"1 to {limits.STORE_ID_MAX_BYTES}",
        "Longest store id, in UTF-8 bytes.",
        check=within(1, limits.STORE_ID_MAX_BYTES),
    )
    audit_log: str | None = declare(
        None,
        "the path of a file, or `-` for standard output",
        "Where connects, refusals, resets and admin acts are recorded, one JSON object a line.",
        check=not_empty,
    )
    audit_required: bool = declare(
        False,
        "true or false",
        "Refuse clients and admin acts while the audit log cannot be written; otherwise what is lost is counted.",
    )


def _exact_origins(values: tuple[str, ...]) -> None:
    for value in values:
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#*]+", value):
            raise ValueError(f"{value!r} is not an origin")


@attrs.frozen(kw_only=True, slots=False)  # several of these are one class in the end
class ControlSettings:
    """Where the control plane listens. See `docs/control-plane.md`; without `admin_secret` there is none."""

    admin_host: str = declare(
        "127.0.0.1",
        "an IP address or a host name",
        "Address on which the control plane listens, once `ADMIN_SECRET` is set.",
        env="ADMIN_HOST",
        check=host_name,
    )
    admin_port: int = declare(
        limits.ADMIN_PORT,
        "0 to 65535; 0 takes any free port",
        "TCP port of the control plane.",
        env="ADMIN_PORT",
        check=within(0, 65535),
    )
    admin_public: bool = declare(
        False, "true or false", "Serve the control plane on the public port too, under `/admin`."
    )
    admin_origins: tuple[str, ...] = declare(
        (),
        "origins such as `https://ops.example.org` separated by commas",
        "Web pages of other origins that may use the control plane.",
        check=_exact_origins,
    )
    origins: Mapping[str, str] = attrs.field(factory=dict, eq=False, repr=False)
    """No setting: where each of them was given (a flag, a variable, a key of the file), for the control plane to tell.
    Those without an entry have their default, or were set by a program."""
    remarks: tuple[str, ...] = attrs.field(default=(), eq=False, repr=False)
    """No setting: what of the environment looks like a mistake and was not taken for a setting, a sentence each."""


@attrs.frozen(kw_only=True, slots=False)  # several of these are one class in the end
class ObservingSettings:
    """Metrics and traces. See `docs/observability.md`."""

    metrics_token: Secret | None = declare(
        None,
        "any text that is not empty",
        "Token with which `GET /metrics` is answered on the public port too; without it there is nothing.",
        check=not_empty,
    )
    traces: bool = declare(
        False,
        "true or false",
        "Send traces of pushes by OTLP; needs the extra `otel`, and `OTEL_*` variables say where to.",
    )


@attrs.frozen(kw_only=True, slots=False)  # several of these are one class in the end
class DatabaseSettings:
    """How PostgreSQL is reached. See `docs/postgresql.md`."""

    listen_url: str | None = declare(
        None,
        "`postgresql://user@host/database`",
        "PostgreSQL without the pooler that `DATABASE_URL` leads to: where news from other servers is listened for.",
        check=check_postgresql_url,
        holds_secret=True,
    )
    database_wait_s: float = declare(
        limits.DATABASE_WAIT_S,
        SECONDS,
        "How long the start waits for a PostgreSQL that cannot be reached yet, or an SQLite file whose server stops.",
        check=duration,
    )


# --- all of them ----------------------------------------------------------------------------------------------------


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
        (),
        "origins such as `https://app.example.org` separated by commas, or `*` for all; empty: all where clients must "
        "prove who they are, else pages of this machine",
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


# --- what does not fit together -------------------------------------------------------------------------------------


def surface_problems(settings: Any) -> list[tuple[str, str]]:
    """What of the settings does not fit together: the variable at fault, and what is wrong with it."""
    pair = (("LIVESYNC_TLS_CERT", settings.tls_cert), ("LIVESYNC_TLS_KEY", settings.tls_key))
    problems = [
        (env, f"{path!r}: there is no such file") for env, path in pair if path is not None and not Path(path).is_file()
    ]
    if (settings.tls_cert is None) != (settings.tls_key is None):
        problems.append(("LIVESYNC_TLS_CERT", "it and LIVESYNC_TLS_KEY belong together"))
    return problems


def control_problems(settings: Any) -> list[tuple[str, str]]:
    """What of the settings does not fit together: the variable at fault, and what is wrong with it."""
    if settings.admin_public and settings.admin_secret is None:
        return [("LIVESYNC_ADMIN_PUBLIC", "it asks for ADMIN_SECRET, without which nobody could use the control plane")]
    return []
