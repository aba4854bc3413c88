"""`livesync health`: ask the server that this configuration describes how it is. For health checks without curl."""

import http.client
import os
import socket
import ssl
from typing import Any, Final

import click

from livesync_trio.cli.options import configuration_options
from livesync_trio.cli.printing import tell
from livesync_trio.config import THIS_MACHINE, Config, load
from livesync_trio.limits import HEALTH_ANSWER_LIMIT_S, UNIX

_UNWELL: Final = 1
"""Exit code of a server that does not answer, drains, or has lost its database."""


@click.command()
@configuration_options("host", "port", "tls_cert")
def health(**flags: Any) -> None:
    """Ask the server on this machine how it is; exit with 1 when it is not well.

    Finds it by the settings of `livesync serve`, whose options it takes too.
    """
    config = load(flags, os.environ)
    failures: list[str] = []
    well = False
    for host in _hosts(config):
        connection = _connection(config, host)
        try:
            connection.request("GET", "/health", headers={"Host": "localhost"})
            answer = connection.getresponse()
            tell(answer.read().decode(errors="replace"))
            well = answer.status == http.client.OK
            failures.clear()
            break
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"livesync: no answer from {connection.host}:{connection.port}: {error}")
        finally:
            connection.close()
    for failure in failures:
        tell(failure, err=True)
    if not well:
        click.get_current_context().exit(_UNWELL)


def _hosts(config: Config) -> list[str]:
    """Where the server is looked for, one after the other: `::` is both families, of which one may be missing."""
    first = THIS_MACHINE.get(config.host, config.host).strip("[]")
    return [first, "127.0.0.1"] if config.host == "::" else [first]


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket; `host` is `unix:` and its path."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(HEALTH_ANSWER_LIMIT_S)
        self.sock.connect(self.host.removeprefix(UNIX))


def _connection(config: Config, host: str) -> http.client.HTTPConnection:
    if host.startswith(UNIX) and config.tls_cert is None:
        return _UnixConnection(host, config.port, timeout=HEALTH_ANSWER_LIMIT_S)
    if config.tls_cert is None:
        return http.client.HTTPConnection(host, config.port, timeout=HEALTH_ANSWER_LIMIT_S)
    # The certificate is for the public name; who listens on our own address and port is known without it.
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, config.port, timeout=HEALTH_ANSWER_LIMIT_S, context=unverified)
