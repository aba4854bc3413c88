"""Every setting of the server, declared once, in the group to which it belongs.

Flags, environment names, TOML keys, `--help` and the page of the documentation are derived from these classes.
"""

from pathlib import Path
from typing import Final, Literal

import attrs

from livesync_trio import limits
from livesync_trio.config import checks
from livesync_trio.config.checks import at_least, duration, host_name, host_name_or_socket, not_empty, within
from livesync_trio.config.declaring import SECONDS, Secret, declare, one_of

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
"""The lowest level that is logged."""

LogFormat = Literal["console", "json"]
"""How log lines look: for a person at a terminal, or one JSON object a line."""

ForwardedHeader = Literal["x-forwarded-for", "forwarded"]
"""The one header in which a proxy in front names the client."""

_TRUTH: Final = "true or false"
_ADDRESS: Final = "an IP address or a host name"
_PORT: Final = "0 to 65535; 0 takes any free port"
_TEXT: Final = "any text that is not empty"
_CLAIM: Final = "the name of a claim"
_TEMPLATES: Final = "store names separated by commas; `{org}` stands for a claim, a `*` at the end for any rest"
_RATES: Final = "`connections`, `pushes`, `events`, `bytes`, each `=` a number `/s`, `/min` or `/h`; `off` for no limit"
_COUNT: Final = "a whole number; 0 for no limit"


class Group:
    """Settings that belong together."""

    def misfits(self) -> list[tuple[str, str]]:
        """What of the settings does not fit together: the variable at fault, and what is wrong with it."""
        return []


def _rates(values: tuple[str, ...]) -> None:
    checks.parse_rates(values)


def _networks(values: tuple[str, ...]) -> None:
    checks.networks(values)


@attrs.frozen(kw_only=True, slots=False)  # the groups are one class in the end
class NetworkSettings(Group):
    """Where clients reach the server. See `docs/deployment.md` and `docs/hardening.md`."""

    host: str = declare(
        "127.0.0.1",
        _ADDRESS,
        "Address to listen on; `0.0.0.0` is every IPv4 address of the machine, `::` every address of both families; "
        "`unix:/run/livesync/sync.sock` is a Unix socket.",
        env="HOST",
        check=host_name_or_socket,
    )
    port: int = declare(8000, _PORT, "TCP port to listen on.", env="PORT", check=within(0, 65535))
    insecure: bool = declare(
        False, _TRUTH, "Allow listening on a network without authentication, or with a placeholder secret."
    )
    cors_origins: tuple[str, ...] = declare(
        (),
        "origins such as `https://app.example.org` separated by commas, or `*` for all; empty: all where clients must "
        "prove who they are, else pages of this machine",
        "Web pages from these origins may connect and read the answers; others are refused.",
        check=checks.origins_or_all,
    )
    tls_cert: str | None = declare(
        None, "the path of a PEM file", "Certificate chain; with it the server speaks TLS itself.", check=not_empty
    )
    tls_key: str | None = declare(
        None, "the path of a PEM file", "Key of the certificate. SIGHUP reloads both.", check=not_empty
    )
    trusted_proxies: tuple[str, ...] = declare(
        (),
        "addresses and networks such as `10.0.0.0/8` separated by commas; `loopback` for this machine",
        "Proxies that are trusted to name the client's address.",
        check=_networks,
    )
    forwarded_header: ForwardedHeader = declare(
        "x-forwarded-for",
        one_of(ForwardedHeader),
        "Header in which those proxies name it; the other header is ignored.",
    )
    proxy_protocol: bool = declare(
        False,
        _TRUTH,
        "Those proxies begin each connection with a PROXY header (version 1 or 2), which names the client.",
    )

    def misfits(self) -> list[tuple[str, str]]:
        """See `Group`."""
        pair = (("LIVESYNC_TLS_CERT", self.tls_cert), ("LIVESYNC_TLS_KEY", self.tls_key))
        problems = [
            (env, f"{path!r}: there is no such file")
            for env, path in pair
            if path is not None and not Path(path).is_file()
        ]
        if (self.tls_cert is None) != (self.tls_key is None):
            problems.append(("LIVESYNC_TLS_CERT", "it and LIVESYNC_TLS_KEY belong together"))
        return problems


@attrs.frozen(kw_only=True, slots=False)
class DatabaseSettings(Group):
    """Where the events are kept. See `docs/postgresql.md`."""

    database_url: str = declare(
        "sqlite:///livesync.db",
        "`sqlite:///relative.db`, `sqlite:////absolute/path.db` or `postgresql://user@host/database`",
        "Database for the events; an SQLite file is created if it does not exist.",
        env="DATABASE_URL",
        check=checks.check_database_url,
        holds_secret=True,
    )
    listen_url: str | None = declare(
        None,
        "`postgresql://user@host/database`",
        "PostgreSQL without the pooler that `DATABASE_URL` leads to, for notifications from other servers.",
        check=checks.check_postgresql_url,
        holds_secret=True,
    )
    database_wait_s: float = declare(
        limits.DATABASE_WAIT_S,
        SECONDS,
        "How long the start waits for a PostgreSQL that cannot be reached, or an SQLite file whose server is stopping.",
        check=duration,
    )


@attrs.frozen(kw_only=True, slots=False)
class IdentitySettings(Group):
    """Who may connect, and to which stores. See `docs/authentication.md` and `docs/hooks.md`."""

    auth_token: Secret | None = declare(
        None, _TEXT, "Token that clients must send as `payload.authToken`.", env="AUTH_TOKEN", check=not_empty
    )
    jwt_secret: Secret | None = declare(
        None,
        f"at least {limits.JWT_SECRET_LEAST_BYTES} bytes",
        "Secret that signs JSON Web Tokens (HS256).",
        check=checks.hmac_secret,
    )
    jwt_keys: str | None = declare(
        None,
        "the path of a PEM or JWKS file, or the https URL of a JWKS",
        "Public keys that verify JSON Web Tokens; a URL is fetched again when a token names an unknown key.",
        check=checks.keys,
    )
    jwt_algorithms: tuple[str, ...] = declare(
        (),
        "names such as `RS256` separated by commas",
        "Signatures accepted; empty: HS256 for `jwt_secret`, and RS256, ES256 and EdDSA for `jwt_keys`.",
        check=checks.algorithms,
    )
    jwt_issuer: str | None = declare(None, "any text", "The `iss` that tokens must have.", check=not_empty)
    jwt_audience: str | None = declare(None, "any text", "The `aud` that tokens must have.", check=not_empty)
    jwt_leeway_s: float = declare(
        limits.JWT_LEEWAY_S,
        f"0 to {limits.JWT_LEEWAY_MAX_S:g}",
        "Seconds by which clocks may differ when `exp` and `nbf` are checked.",
        check=checks.leeway,
    )
    jwt_principal_claim: str = declare("sub", _CLAIM, "Claim that says who the client is.", check=not_empty)
    jwt_stores_claim: str = declare(
        "stores",
        _CLAIM,
        "Claim with the stores a token may read and write: names, or prefixes that end in `*`.",
        check=not_empty,
    )
    jwt_read_stores_claim: str = declare(
        "stores_read", _CLAIM, "Claim with the stores a token may only read.", check=not_empty
    )
    jwt_stores: tuple[str, ...] = declare(
        (), _TEMPLATES, "Stores every token may read and write, such as `team-{org}`.", check=checks.templates
    )
    jwt_read_stores: tuple[str, ...] = declare(
        (), _TEMPLATES, "Stores every token may only read.", check=checks.templates
    )
    auth_cookie: str | None = declare(
        None,
        "the name of a cookie",
        "Cookie that may carry a token too; needs `cors_origins`, because browsers send cookies for any page.",
        check=checks.cookie,
    )
    hooks: str | None = declare(
        None,
        "the name of a module or the path of a `.py` file",
        "Your own functions that decide who may do what, and observe.",
        env="LIVESYNC_HOOKS",
        check=not_empty,
    )
    hook_limit_s: float = declare(
        limits.HOOK_LIMIT_S,
        SECONDS,
        "A hook that has not answered by then is cut off and its request refused.",
        check=duration,
    )
    store_user: bool = declare(
        False,
        _TRUTH,
        "Store with each event who pushed it: the claim `jwt_principal_claim`, or the user a hook named. "
        "Clients never receive it.",
    )
    store_id_pattern: str | None = declare(
        None, "a regular expression", "Pattern that a whole store id must match.", check=checks.pattern
    )
    store_id_max_bytes: int = declare(
        limits.STORE_ID_MAX_BYTES,
        f"1 to {limits.STORE_ID_MAX_BYTES}",
        "Longest store id, in UTF-8 bytes.",
        check=within(1, limits.STORE_ID_MAX_BYTES),
    )

    def misfits(self) -> list[tuple[str, str]]:
        """See `Group`."""
        problems = []
        algorithms = set(self.jwt_algorithms)
        for env, given, kinds in (
            ("LIVESYNC_JWT_SECRET", self.jwt_secret is not None, set(checks.HMAC_ALGORITHMS)),
            ("LIVESYNC_JWT_KEYS", self.jwt_keys is not None, set(checks.KEY_ALGORITHMS)),
        ):
            if algorithms & kinds and not given:
                problems.append(
                    (env, "it is missing, although LIVESYNC_JWT_ALGORITHMS names a signature that needs it")
                )
            if algorithms and given and not algorithms & kinds:
                problems.append((env, "it is given, although LIVESYNC_JWT_ALGORITHMS allows no signature made with it"))
        if self.jwt_keys is not None and "://" not in self.jwt_keys and not Path(self.jwt_keys).is_file():
            problems.append(("LIVESYNC_JWT_KEYS", f"{self.jwt_keys!r}: there is no such file"))
        return problems


@attrs.frozen(kw_only=True, slots=False)
class FairUseSettings(Group):
    """Rate limits and quotas. See `docs/hardening.md`."""

    rate_principal: tuple[str, ...] = declare(
        limits.RATE_PRINCIPAL, _RATES, "How fast one user may connect and push.", check=_rates
    )
    rate_address: tuple[str, ...] = declare(
        limits.RATE_ADDRESS, _RATES, "How fast one address may; loopback addresses are not counted.", check=_rates
    )
    rate_store: tuple[str, ...] = declare((), _RATES, "How fast one store may be used, by all together.", check=_rates)
    max_principal_connections: int = declare(
        limits.PRINCIPAL_CONNECTIONS_MAX,
        _COUNT,
        "WebSockets that one user may have open at a time.",
        check=at_least(0),
    )
    max_address_connections: int = declare(
        limits.ADDRESS_CONNECTIONS_MAX,
        _COUNT,
        "Connections that one address may have open; loopback is not counted.",
        check=at_least(0),
    )
    max_principal_stores: int = declare(
        limits.PRINCIPAL_STORES_MAX, _COUNT, "Different stores that one user may use within a day.", check=at_least(0)
    )
    max_store_events: int = declare(
        0, _COUNT, "Events that a store may hold; pushes that would exceed it are refused.", check=at_least(0)
    )
    max_store_bytes: int = declare(
        0, _COUNT, "Bytes of events that a store may hold; counted by reading it once after a start.", check=at_least(0)
    )


@attrs.frozen(kw_only=True, slots=False)
class LimitSettings(Group):
    """What one connection may take, and how long things may last. See `docs/hardening.md`."""

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
        limits.STALL_LIMIT_S, SECONDS, "A client that takes no bytes for this long is disconnected.", check=duration
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
    drain_limit_s: float = declare(
        limits.DRAIN_LIMIT_S,
        SECONDS,
        "How long a graceful shutdown may take before what still runs is cut.",
        check=duration,
    )
    dormant_after_s: float = declare(
        limits.DORMANT_AFTER_S,
        SECONDS,
        "Quiet time without connections after which a store leaves memory.",
        check=duration,
    )


@attrs.frozen(kw_only=True, slots=False)
class ControlSettings(Group):
    """The control plane. See `docs/control-plane.md`; without `admin_secret` and `console` there is none."""

    admin_secret: Secret | None = declare(
        None,
        _TEXT,
        "The operator's secret. It opens the control plane and the admin messages of 0.3; without it, and without the "
        "console, both are off.",
        env="ADMIN_SECRET",
        check=not_empty,
    )
    admin_host: str = declare("127.0.0.1", _ADDRESS, "Address of the control plane.", env="ADMIN_HOST", check=host_name)
    admin_port: int = declare(
        limits.ADMIN_PORT, _PORT, "TCP port of the control plane.", env="ADMIN_PORT", check=within(0, 65535)
    )
    admin_public: bool = declare(False, _TRUTH, "Serve the control plane on the public port too, under `/admin`.")
    admin_origins: tuple[str, ...] = declare(
        (),
        "origins such as `https://ops.example.org` separated by commas",
        "Web pages of other origins that may use the control plane.",
        check=checks.origins,
    )


@attrs.frozen(kw_only=True, slots=False)
class ObservingSettings(Group):
    """Logs, audit, metrics and traces. See `docs/observability.md`."""

    log_level: LogLevel = declare("info", one_of(LogLevel), "Lowest level to log.", env="LOG_LEVEL")
    log_format: LogFormat = declare(
        "console",
        one_of(LogFormat),
        "Log lines for a person at a terminal, or one JSON object a line.",
        env="LOG_FORMAT",
    )
    audit_log: str | None = declare(
        None,
        "the path of a file, or `-` for standard output",
        "Where connects, refusals, resets and admin acts are recorded, one JSON object a line.",
        check=not_empty,
    )
    audit_required: bool = declare(
        False,
        _TRUTH,
        "Refuse clients and admin acts while the audit log cannot be written; otherwise lost records are counted.",
    )
    metrics_token: Secret | None = declare(
        None,
        _TEXT,
        "Token that opens `GET /metrics` on the public port; without it there is none.",
        check=not_empty,
    )
    traces: bool = declare(
        False, _TRUTH, "Send traces of pushes by OTLP; needs the extra `otel`, and `OTEL_*` variables say where to."
    )
