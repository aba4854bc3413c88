"""What `livesync serve` says when it is ready: where, what, who, and the line for the client."""

from urllib.parse import urlsplit

import attrs

from livesync_trio.config import Config, is_loopback, is_placeholder
from livesync_trio.version import VERSION

THIS_MACHINE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - only compared with, not listened on
"""Under which address this machine reaches a server that listens on all of them."""


@attrs.frozen
class Control:
    """The control plane, as it was told.

    Attributes:
        url: where it listens; empty when it has no address.
        first: path and query of the page on which the first operator is made; None: that is not needed.
    """

    url: str
    first: str | None = None

    def line(self, config: Config, url: str) -> str:
        """Where it is. Not to have it is no reason not to serve, but one to be told."""
        line = self.url or f"NOT YET: {config.admin_host}:{config.admin_port} cannot be listened on; see the log"
        return f"{line}   and   {url}/admin" if config.admin_public else line

    def first_line(self, config: Config, url: str) -> str:
        """Where the first operator is made, and how long."""
        own = self.url or (f"{url}/admin" if config.admin_public else f"http://{config.admin_host}:{config.admin_port}")
        return f"{own}{self.first}   (makes the first operator, once, within 30 minutes)"


def banner(config: Config, url: str, database: str, who_may_connect: str, control: Control | None = None) -> str:
    """The text.

    Args:
        config: the configuration.
        url: where the server listens, `http://host:port`, as bound.
        database: where the events are kept, in the engine's words.
        who_may_connect: in words.
        control: the control plane; None where there is none.
    """
    lines = [
        ("listening on", url),
        ("database", database),
        ("may connect", who_may_connect),
        *([] if control is None else [("control", control.line(config, url))]),
        *([] if control is None or control.first is None else [("sign in", control.first_line(config, url))]),
        ("in the app", client_line(config, url)),
    ]
    for env, secret in (("AUTH_TOKEN", config.auth_token), ("ADMIN_SECRET", config.admin_secret)):
        if secret is not None and is_placeholder(secret):
            lines.append(("warning", f"{env} is a placeholder that everybody knows; a proxy in front would expose it"))
    return "\n".join([f"livesync {VERSION}", *(f"  {label:<13}{text}" for label, text in lines)])


def client_line(config: Config, url: str) -> str:
    """The one line to paste into a client's code; it works on this machine."""
    parts = urlsplit(url)
    host = THIS_MACHINE.get(parts.hostname or "", parts.netloc.rpartition(":")[0])
    scheme = "wss" if parts.scheme == "https" else "ws"
    line = f"makeWsSync({{ url: '{scheme}://{host}:{parts.port}' }})"
    return line if not config.asks_for_tokens else f"{line}   and   syncPayload: {{ authToken: '…' }}"


def who_may_connect(config: Config, has_validate_payload: bool) -> str:
    """Who gets in, in words.

    Args:
        config: the configuration.
        has_validate_payload: whether a hook decides, whichever of the three that can.
    """
    from_where = "" if not is_loopback(config.host) else " on this machine"
    tokens = [] if config.auth_token is None else ["AUTH_TOKEN"]
    tokens += [] if config.jwt_secret is None and config.jwt_keys is None else ["a valid JSON Web Token"]
    terms = [f"send {' or '.join(tokens)}"] if tokens else []
    terms += ["your hooks accept"] if has_validate_payload else []
    if terms:
        return f"clients{from_where} that {' and that '.join(terms)}"
    return f"anyone{from_where}" if from_where else "ANYONE who reaches this address (--insecure)"
