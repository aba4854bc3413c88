"""The environment: which variables are settings, which were put there by somebody else, which look like a mistake.

Names such as `HOST` and `PORT` are what platforms set, and so do others: Kubernetes for every service it knows, conda
for its compilers. Each of them exists with `LIVESYNC_` in front as well; that one wins.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Final

import attrs

from livesync_trio.config.declaring import PREFIX, Setting
from livesync_trio.config.settings import SETTINGS

CONFIG_ENV: Final = "LIVESYNC_CONFIG"
"""Names the TOML file."""
URL_ENV: Final = "LIVESYNC_URL"
"""Names the control plane that commands ask. No setting of the server."""

_PORTS: Final = frozenset({"port", "admin_port"})
_SERVICE_LINK: Final = re.compile(r"(tcp|udp|sctp)://\S+:\d+")
"""What Kubernetes (and Docker's old links) put into `<SERVICE>_PORT`."""
_SERVICE_LINK_NAME: Final = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""The other variables that they set for a service called `livesync` or `livesync-…`."""
_COMPILER: Final = re.compile(r"[a-z0-9_]+-(conda|apple|pc|unknown)-(linux|darwin)[\w.-]*")
"""What conda puts into `HOST`: the machine that its compilers build for."""


@attrs.frozen
class Environment:
    """What was found.

    Attributes:
        own: texts of variables that begin with `LIVESYNC_`: by name of the setting (or of its file) the variable and
            its text.
        common: the same of names that others use too; beaten by `own`.
        remarks: what an operator should know of, one sentence each. None shows a value that may be a secret.
    """

    own: Mapping[str, tuple[str, str]]
    common: Mapping[str, tuple[str, str]]
    remarks: tuple[str, ...]


def read_environment(environ: Mapping[str, str]) -> Environment:
    """Find the settings in the environment. An empty variable counts as not set."""
    own: dict[str, tuple[str, str]] = {}
    common: dict[str, tuple[str, str]] = {}
    remarks = []
    for setting in SETTINGS:
        for name, variable in setting.named_variables:
            text = environ.get(variable)
            if not text:
                continue
            remark = _injected(setting, variable, text)
            if remark is None:
                (own if variable.startswith(PREFIX) else common)[name] = (variable, text)
            else:
                remarks.append(remark)
    known = {CONFIG_ENV, URL_ENV, *(variable for setting in SETTINGS for variable in setting.variables)}
    remarks += [
        f"{variable} is set, but there is no such setting{_meant(variable, known)}"
        for variable in sorted(environ)
        if variable.startswith(PREFIX)
        and variable not in known
        and environ[variable]
        and not _SERVICE_LINK_NAME.fullmatch(variable)
    ]
    return Environment(own, common, tuple(remarks))


def _injected(setting: Setting, variable: str, text: str) -> str | None:
    """What is to be said of a value that nobody can have meant as this setting; None for any other."""
    instead = setting.own_env if variable != setting.own_env else setting.flag
    if setting.name in _PORTS and _SERVICE_LINK.fullmatch(text):
        service = variable.removesuffix("_PORT").replace("_", "-").lower()
        named = "every service" if variable == "PORT" else f"a service called {service!r}"
        return (
            f"{variable}={text!r} is ignored: Kubernetes and Docker set it for {named}. "
            f"Set {instead} if you want another port"
        )
    if variable == "HOST" and _COMPILER.fullmatch(text):
        return f"HOST={text!r} is ignored: conda sets it for its compilers. Set {instead} if you want another address"
    return None


def _meant(variable: str, known: set[str]) -> str:
    close = difflib.get_close_matches(variable, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
