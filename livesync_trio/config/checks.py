"""What a single value may be: numbers, names, origins, networks, rates, store templates, database URLs.

A check takes a value of the right type and raises ValueError when it is not accepted; what the message says is shown to
the operator after the name of the setting. Never touches the file system.
"""

import ipaddress
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from livesync_trio import limits
from livesync_trio.config.declaring import Secret
from livesync_trio.limits import UNIX

# --- numbers and texts -----------------------------------------------------------------------------------------------


def within(low: int, high: int) -> Callable[[int], None]:
    """Check for a whole number from `low` to `high`."""

    def check(value: int) -> None:
        if not low <= value <= high:
            raise ValueError(f"{value} is out of range")

    return check


def at_least(low: int) -> Callable[[int], None]:
    """Check for a whole number from `low`."""

    def check(value: int) -> None:
        if value < low:
            raise ValueError(f"{value} is too small")

    return check


def duration(value: float) -> None:
    """Check for a length of time."""
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{value:g} is not a length of time")


def leeway(value: float) -> None:
    """Check for seconds by which clocks may differ."""
    if not 0 <= value <= limits.JWT_LEEWAY_MAX_S:
        raise ValueError(f"{value:g} is out of range")


def not_empty(value: str | Secret | None) -> None:
    """Check for a text with something in it, or none at all."""
    text = value.reveal() if isinstance(value, Secret) else value
    if text is not None and not text.strip():
        raise ValueError("it is empty")


def pattern(value: str | None) -> None:
    """Check for a regular expression."""
    not_empty(value)
    if value is not None:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"it is not a regular expression: {error}") from None


# --- the network -----------------------------------------------------------------------------------------------------

UNIX_PATH_MAX_BYTES: Final = 108
"""What `unix:` and a path may have: a path of 103 bytes fits into the address of a socket everywhere."""

_LOOPBACK: Final = "loopback"
"""Stands for both loopback networks."""


def host_name(value: str) -> None:
    """Check for an address to listen on."""
    if not value:
        raise ValueError("it is empty")
    if re.search(r"[\s/\[\]]", value):
        raise ValueError(f"{value!r} is not an address: write only the name or number, an IPv6 one without brackets")


def host_name_or_socket(value: str) -> None:
    """Check for an address to listen on, or `unix:` and an absolute path."""
    if not value.startswith(UNIX):
        host_name(value)
    elif not value.startswith(f"{UNIX}/") or value.endswith("/") or len(value.encode()) > UNIX_PATH_MAX_BYTES:
        raise ValueError(f"{value!r} is not unix: and an absolute path of at most {UNIX_PATH_MAX_BYTES} bytes")


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


def origins(values: tuple[str, ...]) -> None:
    """Check for origins of web pages, as browsers send them."""
    for value in values:
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#*]+", value):
            raise ValueError(f"{value!r} is not an origin")


def origins_or_all(values: tuple[str, ...]) -> None:
    """Check for origins of web pages, or `*`."""
    origins(tuple(value for value in values if value != "*"))


def cookie(value: str | None) -> None:
    """Check for the name of a cookie."""
    if value is not None and not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):
        raise ValueError(f"{value!r} is not the name of a cookie")


# --- tokens ----------------------------------------------------------------------------------------------------------

HMAC_ALGORITHMS: Final = ("HS256", "HS384", "HS512")
KEY_ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""Signatures of tokens (RFC 7518, RFC 8037): with a shared secret, and with a public key. Never `none`."""

_CLAIM_IN_TEMPLATE: Final = re.compile(r"\{([^{}]*)\}")


def hmac_secret(value: Secret | None) -> None:
    """Check for a secret that is long enough to sign with."""
    if value is not None and len(value.reveal().encode()) < limits.JWT_SECRET_LEAST_BYTES:
        raise ValueError(f"it is shorter than {limits.JWT_SECRET_LEAST_BYTES} bytes")


def keys(value: str | None) -> None:
    """Check for the place of public keys: a path, or a URL that nobody between can change the answer of."""
    not_empty(value)
    if value is None or "://" not in value:
        return
    parts = urlsplit(value)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")):
        raise ValueError("keys from a network are read over https only")


def algorithms(values: tuple[str, ...]) -> None:
    """Check for names of signatures."""
    for value in values:
        if value not in (*HMAC_ALGORITHMS, *KEY_ALGORITHMS):
            raise ValueError(f"{value!r} is not one of {', '.join((*HMAC_ALGORITHMS, *KEY_ALGORITHMS))}")


def template_claims(template: str) -> list[str]:
    """Names of the claims that stand in braces in a store template; raises ValueError when it is not one."""
    if re.search(r"[{}]", _CLAIM_IN_TEMPLATE.sub("", template)):
        raise ValueError(f"{template!r} has a brace without its partner")
    names = _CLAIM_IN_TEMPLATE.findall(template)
    if not all(names):
        raise ValueError(f"{template!r} has braces without a claim in them")
    if "*" in template.removesuffix("*"):
        raise ValueError(f"{template!r} has a * that is not at its end")
    return names


def templates(values: tuple[str, ...]) -> None:
    """Check for store templates such as `team-{org}`."""
    for value in values:
        template_claims(value)


# --- rates -----------------------------------------------------------------------------------------------------------

_PERIODS_S: Final = {"s": 1.0, "min": 60.0, "h": 3600.0}

RATED: Final = ("connections", "pushes", "events", "bytes")
"""What is counted: WebSockets opened and HTTP requests made; batches; the events in them; their bytes."""

NO_RATE: Final = "off"
"""No limit at all; for the environment, where an empty variable counts as not set."""


class Rate(NamedTuple):
    """`amount` at once, and as much again in every `period_s` seconds."""

    amount: float
    period_s: float

    @property
    def per_s(self) -> float:
        """What comes back in a second."""
        return self.amount / self.period_s


def parse_rates(texts: tuple[str, ...]) -> dict[str, Rate]:
    """Read texts such as `pushes=100/min`.

    Returns:
        A rate for each of `RATED` that is named.

    Raises:
        ValueError: a text is not one, or a thing is named twice.
    """
    rates: dict[str, Rate] = {}
    for text in texts if texts != (NO_RATE,) else ():
        match = re.fullmatch(r"(\w+)\s*=\s*([0-9][0-9_]*)\s*/\s*(s|min|h)", text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a rate such as pushes=100/min")
        thing, amount, period = match.groups()
        if thing not in RATED:
            raise ValueError(f"{thing!r} is none of {', '.join(RATED)}")
        if thing in rates:
            raise ValueError(f"{thing} is named twice")
        if not int(amount):
            raise ValueError(f"{text!r} would allow nothing at all")
        rates[thing] = Rate(float(int(amount)), _PERIODS_S[period])
    return rates


# --- database URLs ---------------------------------------------------------------------------------------------------

_SQLITE: Final = "sqlite"
_POSTGRESQL: Final = frozenset({"postgresql", "postgres"})


def is_postgresql(database_url: str) -> bool:
    """Whether a URL names a PostgreSQL database; what it says beyond that, libpq decides when it is opened."""
    scheme, separator, _ = database_url.partition("://")
    return bool(separator) and scheme in _POSTGRESQL


def check_database_url(database_url: str) -> None:
    """Check that a URL names a database.

    Raises:
        ValueError: it does not. The message never repeats the URL, which may hold a password.
    """
    if is_postgresql(database_url):
        _check_authority(database_url)
    else:
        sqlite_path(database_url)


def check_postgresql_url(database_url: str | None) -> None:
    """Check that a URL, if there is one, names a PostgreSQL database.

    Raises:
        ValueError: it does not.
    """
    if database_url is not None:
        if not is_postgresql(database_url):
            raise ValueError("it is not a postgresql URL")
        _check_authority(database_url)


def _check_authority(database_url: str) -> None:
    """Refuse what libpq would cut in the wrong place: it would name parts of a password as host, port or database."""
    place = database_url.partition("://")[2].partition("?")[0]
    authority = place.partition("/")[0]
    user, _, host = authority.rpartition("@")
    if "@" in user or "@" in place.removeprefix(authority):
        raise ValueError("it has more than one @, or a / before it: in a password write %40 for @, %2F for /")
    if not re.fullmatch(r"([^:\[\]]*|\[[^\[\]]*\])(:\d*)?(,([^:\[\]]*|\[[^\[\]]*\])(:\d*)?)*", host):
        raise ValueError(
            "it has no host and port where they belong: in a password write %3F for ?, %2F for /, %40 for @"
        )
    if re.search(r"%(?![0-9A-Fa-f]{2})", database_url):
        raise ValueError("it has a % without two hexadecimal digits behind it: write %25 for %")
    if re.search(r"[\s\x00-\x1f\x7f]", database_url):
        raise ValueError("it has white space or a control character in it: write %20 for a space")


def sqlite_path(database_url: str) -> Path:
    """The file a `sqlite:` URL names.

    Args:
        database_url: `sqlite:///relative.db`, `sqlite:////absolute/path.db`; `%xx` stands for a byte of the name.

    Returns:
        The path as given: a relative one is relative to the working directory.

    Raises:
        ValueError: not such a URL. The message never repeats the URL, which may hold a password.
    """
    scheme, separator, rest = database_url.partition(":")
    if scheme in _POSTGRESQL and separator:
        raise ValueError("a postgresql URL has two slashes before the host")
    if scheme != _SQLITE or not separator:
        raise ValueError("it is not a sqlite URL, nor a postgresql one")
    if not rest.startswith("///"):
        raise ValueError("a sqlite URL has three slashes before a relative path and four before an absolute one")
    name = unquote(rest.removeprefix("///"))
    if "?" in rest or "#" in rest:
        raise ValueError("a sqlite URL takes no parameters; write ? as %3F and # as %23 in a file name")
    if name == ":memory:":
        raise ValueError("a database in memory would lose what clients were told is durable")
    if not name or name.endswith("/"):
        raise ValueError("it names no file")
    if "\0" in name:
        raise ValueError("a file name cannot contain U+0000")
    return Path(name)
