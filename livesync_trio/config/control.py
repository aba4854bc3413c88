"""Settings of the control plane: where operators and their pages reach it."""

import re
from collections.abc import Mapping
from typing import Any

import attrs

from livesync_trio import limits
from livesync_trio.config.declaring import declare, host_name, within


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


def control_problems(settings: Any) -> list[tuple[str, str]]:
    """What of the settings does not fit together: the variable at fault, and what is wrong with it."""
    if settings.admin_public and settings.admin_secret is None:
        return [("LIVESYNC_ADMIN_PUBLIC", "it asks for ADMIN_SECRET, without which nobody could use the control plane")]
    return []
