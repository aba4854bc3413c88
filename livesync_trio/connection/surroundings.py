"""What all connections of a server share."""

from typing import Literal

import attrs

from livesync_trio.audit import Audit
from livesync_trio.config import Secret
from livesync_trio.fairness import Attempts
from livesync_trio.hooks import HookRunner
from livesync_trio.memory import Memory
from livesync_trio.rules.schemas import EventSchemas
from livesync_trio.telemetry import Counters, Flood, PushWatch


@attrs.define(eq=False)
class Surroundings:
    """What every connection of a server shares. A reload of the configuration changes it (`reloading`).

    Attributes:
        hooks: runs the user's functions; a connection keeps those with which it was opened.
        counters: totals of the server.
        max_open_pulls: open pulls allowed on one connection.
        admin_secret: for the admin messages of 0.3; None switches them off.
        admin_attempts: wrong secrets so far, by address.
        audit: the record of who did what.
        flood: keeps repeated lines from filling the log.
        watch: whoever wants to know of each push.
        store_user: whether who pushed an event is stored beside it.
        memory: what all connections together may hold.
        schemas: what appended events must look like; None for anything.
        schemas_of_pushes: what becomes of a push that does not fit them.
    """

    hooks: HookRunner
    counters: Counters
    max_open_pulls: int
    admin_secret: Secret | None = None
    admin_attempts: Attempts = attrs.field(factory=Attempts)
    audit: Audit = attrs.field(factory=Audit)
    flood: Flood = attrs.field(factory=Flood)
    watch: PushWatch = attrs.field(factory=PushWatch)
    store_user: bool = False
    memory: Memory = attrs.field(factory=Memory)
    schemas: EventSchemas | None = None
    schemas_of_pushes: Literal["off", "log", "refuse"] = "off"
