"""`livesync health`: ask the server that this configuration describes how it is. For health checks without curl."""

import http.client
import os
import ssl
from typing import Any, Final

import click

from livesync_trio.cli.banner import THIS_MACHINE
from livesync_trio.cli.flags import configuration_flags
from livesync_trio.config import Config, load
from livesync_trio.limits import HEALTH_ANSWER_LIMIT_S

_UNWELL: Final = 1
"""Exit code of a server that does not answer, drains, or has lost its database."""


@click.command()
@configuration_flags
def health(**flags: Any) -> None:
    """Ask the server on this machine how it is; exit with 1 when it is not well.

    Finds it by the same settings as `livesync serve`: HOST, PORT, TLS.
    """
    config = load(flags, os.environ)
    connection = _connection(config)
    try:
        connection.request("GET", "/health", headers={"Host": "localhost"})
        answer = connection.getresponse()
        click.echo(answer.read().decode(errors="replace"))
        well = answer.status == http.client.OK
    except (OSError, http.client.HTTPException) as error:
        click.echo(f"livesync: no answer from {connection.host}:{connection.port}: {error}", err=True)
        well = False
    finally:
        connection.close()
    if not well:
        click.get_current_context().exit(_UNWELL)


def _connection(config: Config) -> http.client.HTTPConnection:
    host = THIS_MACHINE.get(config.host, config.host)
    if config.tls_cert is None:
        return http.client.HTTPConnection(host, config.port, timeout=HEALTH_ANSWER_LIMIT_S)
    # The certificate is for the public name; who listens on our own address and port is known without it.
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, config.port, timeout=HEALTH_ANSWER_LIMIT_S, context=unverified)
