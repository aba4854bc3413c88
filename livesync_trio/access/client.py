"""Somebody who was let in: who they are, what they may do, and what they hold until they leave."""

import time
from types import TracebackType
from typing import Final

import attrs
import trio

from livesync_trio.errors import Kind, Refusal, TooFast
from livesync_trio.fairness import Fairness, Held, Meter
from livesync_trio.hooks import HookContext
from livesync_trio.model import Principal, text_bytes
from livesync_trio.wire.messages import PushRequest

READ_ONLY: Final = Refusal(Kind.NOT_ALLOWED, "This token may read the store, but not write to it.")
EXPIRED: Final = Refusal(Kind.TOKEN_EXPIRED, "The token has expired. Come back with a fresh one.")


@attrs.frozen
class Expiry:
    """When a token stops to count: by whichever clock comes there first.

    Trio's clock stands still while the machine sleeps; the wall clock may be set back.
    """

    trio_s: float
    wall_s: float

    @classmethod
    def after(cls, seconds: float) -> "Expiry":
        """So many seconds from now."""
        return cls(trio.current_time() + seconds, time.time() + seconds)

    def reached(self, now_s: float) -> bool:
        """Whether it has come. `now_s`: Trio's clock."""
        return now_s >= self.trio_s or time.time() >= self.wall_s


@attrs.frozen
class Rights:
    """What somebody may do with one store, beyond reading it.

    Attributes:
        user: who; None for strangers and holders of the shared token.
        may_push: whether the claims let them write.
        expiry: when their token stops to count; None for never.
        asks_to_push: whether the `authorize` hook wants to be asked for every push.
    """

    user: Principal | None = None
    may_push: bool = True
    expiry: Expiry | None = None
    asks_to_push: bool = False


@attrs.define(eq=False)
class Client:
    """Who uses a store, over one WebSocket or HTTP request. A context, at whose end what was counted is given back.

    Attributes:
        context: the store, the address and the user, as hooks are told of them.
        rights: what they may do.
        meter: what their pushes are charged to, None for nothing.
    """

    context: HookContext
    rights: Rights = Rights()
    meter: Meter | None = None
    _fairness: Fairness | None = None
    _held: Held | None = None

    def refusal_to_push(self, now_s: float) -> Refusal | None:
        """Whether they may not push now at all. `now_s`: Trio's clock."""
        if not self.rights.may_push:
            return READ_ONLY
        return EXPIRED if self.rights.expiry is not None and self.expired(now_s) else None

    def expired(self, now_s: float) -> bool:
        """Whether their token counts no more. `now_s`: Trio's clock."""
        expiry = self.rights.expiry
        return expiry is not None and expiry.reached(now_s)

    def charge(self, request: PushRequest, patience_s: float, now_s: float) -> float | TooFast:
        """Charge a push: how long it must wait, or the refusal. See `Meter.charge`."""
        if self.meter is None:
            return 0.0
        return self.meter.charge(len(request.events), text_bytes(request.events), patience_s, now_s)

    def charge_requests(self, count: int) -> TooFast | None:
        """Charge the other requests of an array that came as one HTTP request; None when they may go on."""
        if self._fairness is None or not count:
            return None
        context, user = self.context, self.rights.user
        user_id = None if user is None else user.id
        now_s = trio.current_time()
        return self._fairness.more_requests(user_id, context.client_host, context.store_id, count, now_s)

    def release(self) -> None:
        """They have left: what they hold is given back. May be called again."""
        if self._held is not None:
            self._held.release()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
