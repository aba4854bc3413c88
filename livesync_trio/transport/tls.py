"""TLS for those without a proxy in front.

Owns the certificate. Renewed files are read again on SIGHUP: connections that are open keep the old one, new ones get
the new one, and files that cannot be used change nothing.
"""

import ssl
from collections.abc import Callable

import trio

from livesync_trio.errors import Kind, StartupError


class Tls:
    """A certificate, and the streams secured with it."""

    def __init__(self, cert: str, key: str) -> None:
        """Read the files.

        Raises:
            StartupError: they cannot be read, or do not belong together.
        """
        self._context = self._read(cert, key)

    def _read(self, cert: str, key: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(cert, key)
        except OSError as error:  # ssl.SSLError is one
            raise StartupError(Kind.BAD_CONFIG, f"the certificate cannot be used: {error}") from None
        return context

    def prepare(self, cert: str, key: str) -> Callable[[], None]:
        """Read the files again, or others.

        Returns:
            What makes them count for connections to come.

        Raises:
            StartupError: they cannot be used. The old ones go on to count.
        """
        context = self._read(cert, key)

        def put_in_place() -> None:
            self._context = context

        return put_in_place

    async def secured(self, stream: trio.abc.Stream, limit_s: float) -> "trio.SSLStream[trio.abc.Stream] | None":
        """A stream that speaks TLS over another, after the handshake; None when the peer does not, or not in time."""
        secured = trio.SSLStream(stream, self._context, server_side=True, https_compatible=True)
        with trio.move_on_after(limit_s):
            try:
                await secured.do_handshake()
            except trio.BrokenResourceError:
                return None
            return secured
        return None
