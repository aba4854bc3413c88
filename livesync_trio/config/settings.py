"""All groups of settings as one `Config`, and as they may be shown.

A capability that has settings of its own adds a group here: a class like those of `groups` (in a file of its own, if it
has many), named in `GROUPS` and among the bases of `Config`. Everything else follows.
"""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from livesync_trio.config.capabilities import ApiSettings, BackupSettings
from livesync_trio.config.console import ConsoleSettings
from livesync_trio.config.declaring import Secret, Setting, settings_of
from livesync_trio.config.feed import FeedSettings
from livesync_trio.config.groups import (
    ControlSettings,
    DatabaseSettings,
    FairUseSettings,
    Group,
    IdentitySettings,
    LimitSettings,
    NetworkSettings,
    ObservingSettings,
)
from livesync_trio.config.webhooks import WebhookSettings

GROUPS: Final[Mapping[type[Group], str]] = {
    NetworkSettings: "Network",
    DatabaseSettings: "Database",
    IdentitySettings: "Who may connect",
    FairUseSettings: "Rate limits and quotas",
    LimitSettings: "Limits of a connection",
    ControlSettings: "Control plane",
    ConsoleSettings: "Console",
    ApiSettings: "HTTP API and event schemas",
    FeedSettings: "Change feed",
    ObservingSettings: "Logs, audit, metrics, traces",
    WebhookSettings: "Webhooks",
    BackupSettings: "Backups",
}
"""Every group and its heading, in the order in which the documentation and `--help` list them."""


@attrs.frozen(kw_only=True)
class Config(
    NetworkSettings,
    DatabaseSettings,
    IdentitySettings,
    FairUseSettings,
    LimitSettings,
    ControlSettings,
    ConsoleSettings,
    ApiSettings,
    FeedSettings,
    ObservingSettings,
    WebhookSettings,
    BackupSettings,
):
    """Everything an operator decides, checked. Made by `load`, or directly by a program that embeds the server.

    Attributes:
        origins: no setting: where each of them was given (a flag, a variable, a key of the file). Those without an
            entry have their default, or were set by a program.
        remarks: no setting: what of the environment looks like a mistake and was ignored, a sentence each.

    Raises:
        ValueError: a value is not accepted.
    """

    origins: Mapping[str, str] = attrs.field(factory=dict, eq=False, repr=False)
    remarks: tuple[str, ...] = attrs.field(default=(), eq=False, repr=False)

    def given(self, name: str) -> str:
        """A setting as messages name it: its value, and where that was given. Not for secrets."""
        origin = self.origins.get(name)
        return f"{getattr(self, name)} ({'the default' if origin is None else f'given by {origin}'})"

    @property
    def asks_for_tokens(self) -> bool:
        """Whether a client must bring a token, shared or its own."""
        return self.auth_token is not None or self.jwt_secret is not None or self.jwt_keys is not None

    @property
    def has_control_plane(self) -> bool:
        """Whether there is somebody who could use a control plane: programs with the secret, operators who sign in."""
        return self.admin_secret is not None or self.console

    def misfits(self) -> list[tuple[str, str]]:
        """See `Group`; of all groups, and of what must fit across them."""
        problems = [misfit for group in GROUPS for misfit in group.misfits(self)]
        if self.admin_public and not self.has_control_plane:
            wrong = "it asks for ADMIN_SECRET or LIVESYNC_CONSOLE, without which nobody could use the control plane"
            problems.append(("LIVESYNC_ADMIN_PUBLIC", wrong))
        if self.auth_cookie is not None and ("*" in self.cors_origins or not self.cors_origins):
            wrong = "browsers send cookies for any page: name the pages that may connect in LIVESYNC_CORS_ORIGINS"
            problems.append(("LIVESYNC_AUTH_COOKIE", wrong))
        return problems


SETTINGS: Final[tuple[Setting, ...]] = tuple(
    setting for group, heading in GROUPS.items() for setting in settings_of(group, heading)
)
"""Every setting, in the order in which the documentation lists them."""


def shown_settings(config: Config) -> list[dict[str, Any]]:
    """Every setting in the order of the documentation: name, env, value, secret, set, origin."""
    return [
        {
            "name": setting.name,
            "env": setting.env,
            "value": None if setting.secret else _shown(getattr(config, setting.name)),
            "secret": setting.secret,
            "set": getattr(config, setting.name) is not None,
            "origin": config.origins.get(setting.name, "default"),
        }
        for setting in SETTINGS
    ]


def _shown(value: Any) -> Any:
    """A value without secrets, and without the password and the parameters that a URL may hold."""
    match value:
        case Secret():
            return "***"
        case tuple():
            return [_shown(part) for part in value]
        case Mapping():
            return {key: _shown(part) for key, part in value.items()}
        case _ if attrs.has(type(value)):
            return {field.name: _shown(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if not isinstance(value, str) or "://" not in value:
        return value
    scheme, _, rest = value.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    place, question, _ = f"{host}{slash}{path}".partition("?")
    if "@" in place:  # a password with a slash, or worse: who knows where it ends
        return f"{scheme}://***"
    name = user.partition(":")[0]
    return f"{scheme}://{name}{':***@' if at else ''}{place}{question}{'***' if question else ''}"
