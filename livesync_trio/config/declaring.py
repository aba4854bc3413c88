"""How a setting is declared: `declare` for a value, `declare_tables` for a table of the TOML file.

Owns `Setting`, what an operator is told of one, and `Secret`. Knows no setting by name.
"""

import hashlib
import hmac
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, get_args, get_origin

import attrs

PREFIX: Final = "LIVESYNC_"
"""Every setting can be named with it in the environment; a few have a name without it as well."""

SECONDS: Final = "a number of seconds above 0"

_DECLARATION: Final = "livesync"
"""Key in a field's attrs metadata under which its declaration lies."""

_NEVER_SEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of what no editor shows: controls, formats, halves of surrogate pairs, separators of lines."""


class Secret:
    """A token or password that no log line, traceback or `repr` shows.

    Not an attrs class: `attrs.asdict` of a configuration would walk into it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself. For the few who must send it or compare it by rules of their own."""
        return self._text

    def matches(self, candidate: str) -> bool:
        """Whether `candidate` is the secret, in a time that tells nothing about it, not even its length."""
        return hmac.compare_digest(_digest(self._text), _digest(candidate))

    def __eq__(self, other: object) -> bool:
        return self.matches(other._text) if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(_digest(self._text))

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")


def _digest(text: str) -> bytes:
    # A candidate comes from a client's JSON and may hold lone surrogates, which plain UTF-8 refuses.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@attrs.frozen
class Setting:
    """One thing an operator may decide.

    Attributes:
        name: key in the TOML file and field of `Config`.
        group: heading under which the documentation and `--help` list it.
        env: name of the environment variable; empty for one that only the file can give.
        type: type of the field.
        default: value when it is not given.
        accepts: what may be given, in words.
        help: what it decides, in one sentence.
        check: raises ValueError for a value of the right type that is not accepted.
        holds_secret: whether a part of the value may be a secret, such as the password in a URL.
    """

    name: str
    group: str
    env: str
    type: Any
    default: object
    accepts: str
    help: str
    check: Callable[[Any], None]
    holds_secret: bool = False

    @property
    def only_in_file(self) -> bool:
        """Whether it is a table, or several, of the TOML file: it has no flag and no environment variable."""
        return not self.env

    @property
    def key_variables(self) -> Mapping[str, tuple[str, Any]]:
        """Environment variables that give single keys of a table, such as `LIVESYNC_FEED_SOURCE`: key and type of each.

        Keys that are tables themselves have none.
        """
        table = next((kind for kind in get_args(self.type) if attrs.has(kind)), None)
        if not self.only_in_file or table is None or get_origin(self.type) is tuple:
            return {}
        variables: dict[str, tuple[str, Any]] = {}
        for field in attrs.fields(table):
            if get_origin(field.type) is not Mapping:
                variable = f"{PREFIX}{self.name}_{field.name}".upper()
                variables[variable] = (field.name, field.type)
                if Secret in (field.type, *get_args(field.type)):
                    variables[f"{variable}_FILE"] = (f"{field.name}_file", str)
        return variables

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
        """The environment variable that nobody else sets. It overrides `env` where the two differ."""
        return self.env if self.env.startswith(PREFIX) else PREFIX + self.env

    @property
    def named_variables(self) -> tuple[tuple[str, str], ...]:
        """Its environment variables, each with the TOML key of the same meaning: `name` or `file_name`."""
        if self.only_in_file:
            return ()
        names = dict.fromkeys((self.own_env, self.env))
        values = tuple((self.name, env) for env in names)
        return values + (tuple((self.file_name, f"{env}_FILE") for env in names) if self.from_file else ())

    @property
    def variables(self) -> tuple[str, ...]:
        """Every environment variable in which it may be given."""
        return tuple(variable for _, variable in self.named_variables)

    @property
    def flag(self) -> str:
        """The flag of `livesync serve`; for a secret the one that names a file with it. Not for `only_in_file`."""
        return "--" + (self.file_name if self.secret else self.name).replace("_", "-")

    @property
    def default_text(self) -> str:
        """The default as an operator would write it; empty when there is none."""
        match self.default:
            case None | Mapping():
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


def _printable(value: Secret) -> None:
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
    check: Callable[[Any], None] = _anything,
    holds_secret: bool = False,
) -> Any:
    """Declare a setting: an attrs field whose metadata holds what the operator is told.

    Args:
        default: value when it is not given.
        accepts: what may be given, in words.
        help: what it decides, in one sentence.
        env: environment variable; `LIVESYNC_<NAME>` when None.
        check: raises ValueError for a value that is not accepted.
        holds_secret: see `Setting`.
    """

    def checked(value: Any) -> None:
        if isinstance(value, Secret):
            _printable(value)
        check(value)

    declaration = {"accepts": accepts, "help": help, "env": env, "check": checked, "holds_secret": holds_secret}
    return attrs.field(
        default=default,
        validator=lambda _, __, value: checked(value),
        metadata={_DECLARATION: declaration},
    )


def declare_tables(
    default: object,
    accepts: str,
    help: str,  # noqa: A002 - the word click uses for the same text
    *,
    check: Callable[[Any], None] = _anything,
) -> Any:
    """Declare a setting that only the TOML file can give.

    The field's type says how it is written: an attrs class (or None) is a table `[name]` whose keys are its fields,
    `tuple[Class, ...]` is a list of tables `[[name]]`, `Mapping[str, Class]` is tables `[name.key]`. A field of type
    `Secret` may be given as `field_file` too.

    Args:
        default: value when it is not given: `()`, an empty mapping that cannot be changed, or None.
        accepts: what may be given, in words.
        help: what it decides, in one sentence.
        check: raises ValueError for a value that is not accepted.
    """
    return declare(default, accepts, help, env="", check=check)


def one_of(choice: Any) -> str:
    """What is accepted for a `Literal`, in words."""
    return ", ".join(get_args(choice))


def settings_of(group: type[Any], heading: str) -> list[Setting]:
    """The settings that an attrs class declares itself, in the order in which it does."""
    return [
        _setting(field, heading)
        for field in attrs.fields(group)
        if _DECLARATION in field.metadata and not field.inherited
    ]


def _setting(field: "attrs.Attribute[Any]", group: str) -> Setting:
    declaration = field.metadata[_DECLARATION]
    env = declaration["env"]
    return Setting(
        name=field.name,
        group=group,
        env=f"{PREFIX}{field.name.upper()}" if env is None else env,
        type=field.type,
        default=field.default,
        accepts=declaration["accepts"],
        help=declaration["help"],
        check=declaration["check"],
        holds_secret=declaration["holds_secret"],
    )


# --- secrets that stand in examples, and so are none ------------------------------------------------------------------


_PLACEHOLDERS: Final = frozenset(
    {
        "admin",
        "admin-secret",
        "auth-token",
        "default",
        "example",
        "insecure",
        "password",
        "placeholder",
        "secret",
        "test",
        "token",
        "your-secret",
        "your-token",
    }
)
"""Values that examples carry and that everybody can guess; besides everything that asks to be changed."""

_ASKS_TO_BE_CHANGED: Final = ("changeme", "change-me", "change-this", "replace-me", "replace-this")
"""`insecure-token-change-me` and `change-me-admin-secret` of LiveStore's examples, and their kin."""


def is_placeholder(secret: Secret) -> bool:
    """Whether a secret is one that stands in examples."""
    text = secret.reveal().strip().casefold().replace("_", "-").replace(" ", "-")
    return text in _PLACEHOLDERS or any(plea in text for plea in _ASKS_TO_BE_CHANGED)
