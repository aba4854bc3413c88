"""How a setting is declared, and what may be checked of its value.

Owns `Setting`, `declare`, and the checks that several settings share. Knows no setting by name.
"""

import math
import re
from collections.abc import Callable
from typing import Any, Final, get_args

import attrs

from livesync_trio.config.secret import Secret

_DECLARATION: Final = "livesync"
"""Key in a field's attrs metadata under which its declaration lies."""


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
        everyday: whether it stands in the short list of those that everybody meets.
        holds_secret: whether a part of the value may be a secret, such as the password in a URL.
    """

    name: str
    env: str
    type: Any
    default: object
    accepts: str
    help: str
    check: Callable[[object], None]
    everyday: bool = True
    holds_secret: bool = False

    @property
    def secret(self) -> bool:
        """Whether the value must not be seen. Then it has no flag, because every process sees another's flags."""
        return bool(self.type == Secret | None)

    @property
    def from_file(self) -> bool:
        """Whether the value may lie in a file of its own, as containers and service managers hand secrets out."""
        return self.secret or self.holds_secret

    @property
    def file_name(self) -> str:
        """TOML key that names a file with the value; where `from_file`."""
        return f"{self.name}_file"

    @property
    def file_env(self) -> str:
        """Environment variable that names a file with the value; where `from_file`."""
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


def anything(_: Any) -> None:
    """Every value of the type is accepted."""


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


def host_name(value: str) -> None:
    """Check for an address to listen on."""
    if not value:
        raise ValueError("it is empty")
    if re.search(r"[\s/\[\]]", value):
        raise ValueError(f"{value!r} is not an address: write only the name or number, an IPv6 one without brackets")


def not_empty(value: str | Secret | None) -> None:
    """Check for a text with something in it, or none at all."""
    text = value.reveal() if isinstance(value, Secret) else value
    if text is not None and not text.strip():
        raise ValueError("it is empty")


def declare(
    default: object,
    accepts: str,
    help: str,  # noqa: A002 - the word click uses for the same text
    *,
    env: str | None = None,
    check: Callable[[Any], None] = anything,
    holds_secret: bool = False,
) -> Any:
    """Declare a setting: an attrs field whose metadata holds what the operator is told.

    Args:
        default: value when it is not given.
        accepts: what may be given, in words.
        help: what it decides, in one sentence.
        env: environment variable; `LIVESYNC_<NAME>` unless given.
        check: raises ValueError for a value that is not accepted.
        holds_secret: see `Setting`.
    """
    declaration = {"accepts": accepts, "help": help, "env": env, "check": check, "holds_secret": holds_secret}
    return attrs.field(
        default=default,
        validator=lambda _, __, value: check(value),
        metadata={_DECLARATION: declaration},
    )


def one_of(choice: Any) -> str:
    """What is accepted for a `Literal`, in words."""
    return ", ".join(get_args(choice))


SECONDS: Final = "a number of seconds above 0"


def is_declared(field: "attrs.Attribute[Any]") -> bool:
    """Whether an attrs field is a setting."""
    return _DECLARATION in field.metadata


def setting_of(field: "attrs.Attribute[Any]", *, everyday: bool) -> Setting:
    """What an attrs field declares; see `Setting` for `everyday`."""
    declaration = field.metadata[_DECLARATION]
    return Setting(
        name=field.name,
        env=declaration["env"] or f"LIVESYNC_{field.name.upper()}",
        type=field.type,
        default=field.default,
        accepts=declaration["accepts"],
        help=declaration["help"],
        check=declaration["check"],
        everyday=everyday,
        holds_secret=declaration["holds_secret"],
    )
