"""What must not be reachable from a network by mistake."""

import ipaddress
from typing import Final

from livesync_trio.config.declaring import is_placeholder
from livesync_trio.config.settings import Config
from livesync_trio.limits import UNIX

AUTH_TOKEN_LEAST_CHARACTERS: Final = 8
AUTH_TOKEN_GOOD_CHARACTERS: Final = 16
"""A shared token shorter than the first is refused on a network, one shorter than the second is warned of."""

THIS_MACHINE: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - only compared with, not listened on
"""Under which address this machine reaches a server that listens on all of them."""


def exposure_problems(config: Config, has_validate_payload: bool) -> list[str]:
    """Reasons not to listen on the configured address.

    Args:
        config: the configuration.
        has_validate_payload: whether a hook decides who may connect, whichever of the three that can.

    Returns:
        One sentence a reason, each with what to do; none when the addresses are loopback ones or `insecure` is set.
    """
    if config.insecure:
        return []
    problems = [] if is_loopback(config.admin_host) else _control_problems(config)
    if is_loopback(config.host):
        return problems
    if not (config.asks_for_tokens or has_validate_payload):
        problems.append(
            f"listening on {config.host} would let anyone on the network read and write every store. "
            "Set AUTH_TOKEN, LIVESYNC_JWT_SECRET or LIVESYNC_JWT_KEYS, "
            "or a hook such as validate_payload in LIVESYNC_HOOKS"
        )
    secrets = {
        "AUTH_TOKEN": config.auth_token,
        "ADMIN_SECRET": config.admin_secret,
        "LIVESYNC_JWT_SECRET": config.jwt_secret,
        "LIVESYNC_METRICS_TOKEN": config.metrics_token,
    }
    for env, secret in secrets.items():
        if secret is not None and is_placeholder(secret):
            problems.append(_placeholder(env))
    token = config.auth_token
    if token is not None and len(token.reveal()) < AUTH_TOKEN_LEAST_CHARACTERS and not is_placeholder(token):
        problems.append(
            f"AUTH_TOKEN has fewer than {AUTH_TOKEN_LEAST_CHARACTERS} characters and can be guessed. "
            f"Choose one of {AUTH_TOKEN_GOOD_CHARACTERS} or more"
        )
    return list(dict.fromkeys(problems))


def exposure_warnings(config: Config) -> list[str]:
    """What should be better, but is no reason not to listen. One sentence each, with what to do."""
    token = config.auth_token
    if token is None or len(token.reveal()) >= AUTH_TOKEN_GOOD_CHARACTERS:
        return []
    return [f"AUTH_TOKEN is short. Choose a random one of {AUTH_TOKEN_GOOD_CHARACTERS} characters or more"]


def _control_problems(config: Config) -> list[str]:
    """What speaks against a control plane that others can reach."""
    if not config.has_control_plane:
        return [f"there is no control plane to listen on ADMIN_HOST={config.admin_host} without ADMIN_SECRET. Set it"]
    secret = config.admin_secret
    return [_placeholder("ADMIN_SECRET")] if secret is not None and is_placeholder(secret) else []


def _placeholder(env: str) -> str:
    return f"{env} is a placeholder that everybody knows. Choose a long random one"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name other than localhost counts as reachable: it may change."""
    if host.startswith(UNIX):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.casefold().removesuffix(".")
        return name == "localhost" or name.endswith(".localhost")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
