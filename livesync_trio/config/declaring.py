"""How a setting is declared, and what may be checked of its value.

Owns `Setting`, `declare`, and the checks that several settings share. Knows no setting by name.
"""

import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final, get_args

import attrs

from livesync_trio.config.secret import Secret

PREFIX: Final = "LIVESYNC_"
"""How every setting can be named in the environment; a few have a name without it besides."""

_DECLARATION: Final = "livesync"
"""Key in a field's attrs metadata under which its declaration lies."""

_NEVER_SEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of what no editor shows: controls, formats, halves of surrogate pairs, separators of lines."""


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
    def own_env(self) -> str:
        """The environment variable that nobody else sets. It beats `env` where the two differ."""
        return self.env if self.env.startswith(PREFIX) else PREFIX + self.env

    @property
    def named_variables(self) -> tuple[tuple[str, str], ...]:
        """Its environment variables, each with the TOML key of the same meaning: `name` or `file_name`."""
        names = dict.fromkeys((self.own_env, self.env))
        values = tuple((self.name, env) for env in names)
        return values + (tuple((self.file_name, f"{env}_FILE") for env in names) if self.from_file else ())

    @property
    def variables(self) -> tuple[str, ...]:
        """Every environment variable in which it may be given."""
        return tuple(variable for _, variable in self.named_variables)

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


def printable(value: Secret) -> None:
    """Check that a secret is what its owner sees: whoever types it again cannot type a byte order mark or a tab."""
    text = value.reveal()
    if any(unicodedata.category(sign) in _NEVER_SEEN for sign in text):
        raise ValueError("it has a character in it that nobody sees (a control character, a byte order mark)")
    if text.strip() and text != text.strip():
        raise ValueError("it has white space around it")


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

    def checked(value: Any) -> None:
        if isinstance(value, Secret):
            printable(value)
        check(value)

    declaration = {"accepts": accepts, "help": help, "env": env, "check": checked, "holds_secret": holds_secret}
    return attrs.field(
        default=default,
        validator=lambda _, __, value: checked(value),
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
        env=declaration["env"] or f"{PREFIX}{field.name.upper()}",
        type=field.type,
        default=field.default,
        accepts=declaration["accepts"],
        help=declaration["help"],
        check=declaration["check"],
        everyday=everyday,
        holds_secret=declaration["holds_secret"],
    )
