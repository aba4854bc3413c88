"""The control plane of a running server, as commands ask it (`docs/control-plane.md`).

Owns the requests, and what their failures mean to an operator.
"""

import http.client
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit

import msgspec

from livesync_trio.config import Secret, load
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import ARCHIVE_LINE_MAX_BYTES, PULL_ANSWER_LIMIT_S
from livesync_trio.wire.reading import Unreadable, plain, read
from livesync_trio.wording import shown_url

_API: Final = "/api/v1"
_raw: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raws: Final = msgspec.json.Decoder(list[msgspec.Raw])

Query = Mapping[str, str | int | None]
"""Parameters of a request; those that are None are left out."""


class ControlPlane:
    """One server, by the URL of its control plane."""

    def __init__(self, url: str, secret: Secret | None) -> None:
        """Nothing is asked yet.

        Args:
            url: `http://host:port`, with a path where a proxy puts it under one.
            secret: `ADMIN_SECRET` of that server.

        Raises:
            CommandError: no such URL, or no secret.
        """
        self._url = shown_url(url).rstrip("/")
        try:
            self._parts = urlsplit(url.rstrip("/"))
            usable = self._parts.scheme in {"http", "https"} and bool(self._parts.hostname) and self._parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise CommandError(Kind.BAD_CONFIG, f"--url {self._url!r} is not an http or https URL.")
        if secret is None:
            raise CommandError(
                Kind.BAD_CONFIG, "A running server asks for its secret: give --admin-secret-file or ADMIN_SECRET."
            )
        self._headers = {"Authorization": f"Bearer {secret.reveal()}"}

    @classmethod
    def needed(cls, url: str | None, flags: Mapping[str, Any]) -> Self:
        """That of `--url`, for commands that only a running server can answer.

        Raises:
            StartupError, CommandError: as above, or there is no `--url`.
        """
        if url is None:
            raise CommandError(Kind.BAD_CONFIG, "Only a running server knows: name its control plane by --url.")
        return cls(url, load(flags, os.environ).admin_secret)

    def get(self, path: str, **query: str | int | None) -> dict[str, Any]:
        """One answer, as Python values. Raises CommandError."""
        return self._plain(self._asked("GET", path, query))

    def post(self, path: str, body: Mapping[str, Any], limit_s: float = PULL_ANSWER_LIMIT_S) -> dict[str, Any]:
        """Ask for a change; its answer, which is waited for so long. Raises CommandError."""
        return self._plain(self._asked("POST", path, {}, json.dumps(body).encode(), limit_s))

    def all(self, path: str, members: str, **query: str | int | None) -> Iterator[bytes]:
        """Every entry of a list, page after page, as JSON text.

        Args:
            path: which list.
            members: name of the array in the answer.
            query: parameters.
        """
        while True:
            text = self._asked("GET", path, query)
            try:
                answer, restore = read(_raw, text)
                array = restore(answer[members])
                entries, restore_entry = read(_raws, array)
                following = plain(restore(answer["next"]))
            except (Unreadable, KeyError) as error:
                raise self._failed(f"it answers what no livesync does ({error})") from error
            yield from (restore_entry(entry) for entry in entries)
            if following is None:
                return
            query = {**query, "after": following}

    def messages(self, path: str, **query: str | int | None) -> Iterator[tuple[str, bytes]]:
        """Server-sent events for as long as they come: name and data of each. Raises CommandError."""
        connection = self._connection()
        try:
            answer = self._begun(connection, "GET", path, query, None)
            name, data = "message", []
            while text := answer.readline():
                field, _, value = text.rstrip(b"\r\n").partition(b": ")
                if field == b"event":
                    name = value.decode()
                elif field == b"data":
                    data.append(value)
                elif not field and data:
                    yield name, b" ".join(data)
                    name, data = "message", []
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(str(error) or type(error).__name__) from error
        finally:
            connection.close()

    @contextmanager
    def understood(self) -> Iterator[None]:
        """What is done inside relies on the answers: what they lack, or have of another kind, is the server's fault.

        Raises:
            CommandError: instead of what such a member led to.
        """
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise self._failed("it answers what no livesync of this version does") from error

    # --- one request ------------------------------------------------------------------------------------------------

    def _connection(self, limit_s: float = PULL_ANSWER_LIMIT_S) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=limit_s, context=context)
        return http.client.HTTPConnection(host, port, timeout=limit_s)

    def _asked(
        self,
        method: str,
        path: str,
        query: Query,
        body: bytes | None = None,
        limit_s: float = PULL_ANSWER_LIMIT_S,
    ) -> bytes:
        connection = self._connection(limit_s)
        try:
            return self._begun(connection, method, path, query, body).read()
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def _begun(
        self, connection: http.client.HTTPConnection, method: str, path: str, query: Query, body: bytes | None
    ) -> http.client.HTTPResponse:
        """Send a request; its answer, once it is known to be none of failure."""
        target = f"{self._parts.path}{_API}{path}"
        given = {name: value for name, value in query.items() if value is not None}
        if given:
            target += f"?{urlencode(given)}"
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise self._refused(answer.status, answer.read(ARCHIVE_LINE_MAX_BYTES))
        return answer

    def _plain(self, text: bytes) -> dict[str, Any]:
        try:
            answer = plain(text)
        except Unreadable as error:
            raise self._failed(f"it answers what no livesync does ({error})") from error
        if not isinstance(answer, dict):
            raise self._failed("it answers what no livesync does")
        return answer

    def _refused(self, status: int, body: bytes) -> CommandError:
        try:
            error = json.loads(body)["error"]
            code, message = str(error["code"]), str(error["message"])
        except (ValueError, KeyError, TypeError):
            return self._failed(f"status {status}: is it the control plane of a livesync server?")
        kind = Kind.NO_SUCH_STORE if code == Kind.NO_SUCH_STORE or status == 404 else Kind.SERVER_UNREACHABLE
        if code == Kind.ALREADY_THERE:
            kind = Kind.ALREADY_THERE
        if status == 401:
            message = f"the admin secret is wrong ({message})"
        return CommandError(kind, f"{self._url}: {message}")

    def _failed(self, why: str) -> CommandError:
        return CommandError(Kind.SERVER_UNREACHABLE, f"{self._url} cannot be asked: {why.rstrip('. ')}.")
