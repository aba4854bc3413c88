"""Settings of what the outside sees: proxies, TLS, names of stores, and the record of who did what."""

import ipaddress
import re
from pathlib import Path
from typing import Any, Final, Literal

import attrs

from livesync_trio import limits
from livesync_trio.config.declaring import declare, not_empty, one_of, within

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


def surface_problems(settings: Any) -> list[tuple[str, str]]:
    """What of the settings does not fit together: the variable at fault, and what is wrong with it."""
    pair = (("LIVESYNC_TLS_CERT", settings.tls_cert), ("LIVESYNC_TLS_KEY", settings.tls_key))
    problems = [(env, "there is no such file") for env, path in pair if path is not None and not Path(path).is_file()]
    if (settings.tls_cert is None) != (settings.tls_key is None):
        problems.append(("LIVESYNC_TLS_CERT", "it and LIVESYNC_TLS_KEY belong together"))
    return problems
