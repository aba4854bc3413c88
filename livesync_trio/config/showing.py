"""The settings as they may be shown: what each is, and where it was given; of a secret only whether there is one."""

from typing import Any

from livesync_trio.config.secret import Secret
from livesync_trio.config.settings import SETTINGS, Config


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
    """A value without the password and the parameters that a URL may hold."""
    assert not isinstance(value, Secret)
    if isinstance(value, tuple):
        return [_shown(part) for part in value]
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
