"""Where a server is: the URL that an application has, and the targets made of it (SPEC 3.1, 5.1)."""

from typing import Final, Literal
from urllib.parse import quote, quote_plus, urlsplit

import attrs

from livesync_trio.client.failures import BadAddress
from livesync_trio.wording import shown_url

Protocol = Literal["ws", "http", "v3"]
"""0.4 over WebSocket, 0.4 over HTTP, 0.3."""

_SECURE: Final = {"http": False, "ws": False, "https": True, "wss": True}
_V3_PATH: Final = "/websocket"


@attrs.frozen
class Address:
    """A server.

    Attributes:
        host: name or address, IPv6 without brackets.
        port: TCP port.
        secure: whether TLS is spoken.
        path: of the URL, `/` at least.
        place: the URL as it may be shown: without user, password, query and fragment.
    """

    host: str
    port: int
    secure: bool
    path: str
    place: str

    @classmethod
    def of(cls, url: str) -> "Address":
        """Read a URL: http, https, ws or wss; the first two mean the same as the others.

        Raises:
            BadAddress: it is none, or has a query, which a client adds itself.
        """
        place = shown_url(url)
        unusable = f"{place!r} is not the URL of a sync server: http, https, ws or wss, and without a query."
        try:
            parts = urlsplit(url)
            if parts.scheme not in _SECURE or not parts.hostname or parts.port == 0 or "?" in url or "#" in url:
                raise ValueError(unusable)
            secure = _SECURE[parts.scheme]
            port = parts.port or (443 if secure else 80)
        except ValueError:
            raise BadAddress(unusable) from None
        return cls(parts.hostname, port, secure, parts.path or "/", place)

    @property
    def authority(self) -> str:
        """What stands in the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    def target(self, protocol: Protocol, store_id: str, payload: bytes | None) -> str:
        """Path and query of a request; `payload` is the application's as JSON text. Raises BadAddress."""
        try:
            path, query = self.path, f"storeId={quote_plus(store_id)}"
        except UnicodeEncodeError:
            raise BadAddress(f"The store id {store_id!r} holds half a character (a lone surrogate).") from None
        if payload is not None:
            query += f"&payload={quote_plus(quote(payload, safe=''))}"
        if protocol != "v3":
            query += f"&transport={protocol}"
        elif not path.endswith(_V3_PATH):
            path = path.rstrip("/") + _V3_PATH
        return f"{path}?{query}"

    def http_url(self, target: str) -> str:
        """A target as a URL for an HTTP client."""
        return f"{'https' if self.secure else 'http'}://{self.authority}{target}"
