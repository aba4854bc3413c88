"""One attempt to hand a message to a receiver, and what its answer means.

Owns the request: signed by Standard Webhooks, bounded in time, never redirected. Of an answer only the status and
`Retry-After` count; its body is thrown away.
"""

import datetime
import email.utils
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

import httpcore
import trio
from standardwebhooks import Webhook as Signature

from livesync_trio.config.webhooks import Webhook
from livesync_trio.delivery.limits import (
    WEBHOOK_ANSWER_LIMIT_S,
    WEBHOOK_ANSWER_MAX_BYTES,
    WEBHOOK_ATTEMPT_LIMIT_S,
    WEBHOOK_CONNECT_LIMIT_S,
    WEBHOOK_REASON_CHARACTERS,
    WEBHOOK_RETRY_AFTER_MAX_S,
    WEBHOOK_WORKERS,
)
from livesync_trio.delivery.messages import Answer, Failed, Gone, Message, Taken
from livesync_trio.version import VERSION

_GONE: Final = 410
_TOO_LARGE: Final = 413
_KEEP_ALIVE_S: Final = 30.0


class Sender:
    """Sends messages of one webhook. Used in the Trio thread, by several tasks."""

    def __init__(
        self,
        webhook: Webhook,
        network: httpcore.AsyncNetworkBackend,
        tls: ssl.SSLContext,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is opened before the first message."""
        self._webhook = webhook
        self._wall_clock = wall_clock
        self._signatures = [Signature(secret.reveal()) for secret in webhook.secrets]
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=WEBHOOK_WORKERS + 1,
            keepalive_expiry=_KEEP_ALIVE_S,
            network_backend=network,
        )

    async def send(self, message: Message) -> Answer:
        """Try once. Takes `WEBHOOK_ATTEMPT_LIMIT_S` and a little at most."""
        status: int | None = None
        failed = Failed("it did not answer in time")
        with trio.move_on_after(WEBHOOK_ATTEMPT_LIMIT_S):
            try:
                async with self._pool.stream(
                    "POST",
                    self._webhook.url,
                    headers=self._headers(message),
                    content=message.body,
                    extensions={"timeout": {"connect": WEBHOOK_CONNECT_LIMIT_S}},
                ) as response:
                    status = response.status
                    retry_after_s = self._retry_after_s(dict(response.headers).get(b"retry-after"))
                    failed = Failed(f"it answered {status}", retry_after_s, status == _TOO_LARGE)
                    await _drained(response)
            except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
                if status is None:
                    failed = Failed(_told(error))
        if status is None or not (200 <= status < 300 or status == _GONE):
            return failed
        return Gone() if status == _GONE else Taken(status)

    async def close(self) -> None:
        """Close all connections."""
        with trio.CancelScope(shield=True), trio.move_on_after(1, shield=True), suppress(Exception):
            await self._pool.aclose()

    def _headers(self, message: Message) -> list[tuple[bytes, bytes]]:
        at = datetime.datetime.fromtimestamp(int(self._wall_clock()), datetime.UTC)
        text = message.body.decode()
        signature = " ".join(each.sign(message.id, at, text) for each in self._signatures)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"livesync/{VERSION}",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": signature,
        }
        own = {name: value.reveal() for name, value in self._webhook.headers.items()}
        return [(name.encode(), value.encode()) for name, value in (headers | own).items()]

    def _retry_after_s(self, given: bytes | None) -> float | None:
        """What `Retry-After` asks for: seconds, or a date (RFC 9110, 10.2.3)."""
        if given is None:
            return None
        text = given.decode("latin-1").strip()
        if text.isdecimal() and text.isascii():
            return min(float(text[:9]), WEBHOOK_RETRY_AFTER_MAX_S)
        try:
            left_s = email.utils.parsedate_to_datetime(text).timestamp() - self._wall_clock()
        except (ValueError, OverflowError):
            return None
        return min(max(0.0, left_s), WEBHOOK_RETRY_AFTER_MAX_S)


async def _drained(response: httpcore.Response) -> None:
    """Read a short body, so that the connection can be used again; a long one, or a slow one, is cut."""
    read_bytes = 0
    with (
        trio.move_on_after(WEBHOOK_ANSWER_LIMIT_S) as patience,
        suppress(httpcore.NetworkError, httpcore.ProtocolError),
    ):
        async for part in response.aiter_stream():
            read_bytes += len(part)
            if read_bytes > WEBHOOK_ANSWER_MAX_BYTES:
                patience.cancel()  # leaving the loop would leave httpcore's generators behind, unfinished


def _told(error: Exception) -> str:
    """A failure as an operator wants to see it, in a line; what caused it often says more than what it became."""
    text, cause = "", cast("BaseException | None", error)
    while cause is not None and not text:
        text = " ".join(str(cause).split())
        cause = cause.__cause__ or cause.__context__
    text = text or type(error).__name__
    return "".join(filter(str.isprintable, text))[:WEBHOOK_REASON_CHARACTERS]
