"""TLS for those without a proxy in front.

Owns the certificate. Renewed files are read again on SIGHUP: connections that are open keep the old one, new ones get
the new one, and files that cannot be used change nothing.
"""

import ssl

import trio

from livesync_trio.errors import Kind, StartupError


class Tls:
    """A certificate, and the streams secured with it."""

    def __init__(self, cert: str, key: str) -> None:
        """Read the files.

        Raises:
            StartupError: they cannot be read, or do not belong together.
        """
        self._cert = cert
        self._key = key
        self._context = self._read()

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._cert, self._key)
        except OSError as error:  # ssl.SSLError is one
            raise StartupError(Kind.BAD_CONFIG, f"the certificate cannot be used: {error}") from None
        return context

    def reload(self) -> None:
        """Read the files again. Raises StartupError when they cannot be used; then the old ones go on to count."""
        self._context = self._read()

    def secure(self, stream: trio.abc.Stream) -> "trio.SSLStream[trio.abc.Stream]":
        """A stream that speaks TLS over another; its handshake happens on `do_handshake`, or with the first byte."""
        return trio.SSLStream(stream, self._context, server_side=True, https_compatible=True)
