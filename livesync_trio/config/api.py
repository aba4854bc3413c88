"""Settings of the HTTP API, and of what events may look like."""

from typing import Literal

import attrs

from livesync_trio.config.checks import not_empty
from livesync_trio.config.declaring import declare, one_of
from livesync_trio.config.groups import Group

SchemasForPushes = Literal["off", "log", "refuse"]
"""What happens to a LiveStore client's push with an event that does not fit its schema."""

UnknownEvents = Literal["allow", "refuse"]
"""What happens to an event for whose name there is no schema."""


@attrs.frozen(kw_only=True, slots=False)
class ApiSettings(Group):
    """Programs that are no LiveStore clients, and what events may look like. See `docs/http-api.md`."""

    api: bool = declare(
        False,
        "true or false",
        "Serve the HTTP API under `/v1`, and the plain WebSocket dialect: any program appends and reads events.",
    )
    event_schemas: str | None = declare(
        None,
        "the path of a JSON file",
        "JSON Schema documents by event name, which the args of events must fit.",
        check=not_empty,
    )
    event_schemas_pushes: SchemasForPushes = declare(
        "off",
        one_of(SchemasForPushes),
        "Whether pushes of LiveStore clients are checked, too: not at all, logged and counted, or refused.",
    )
    event_schemas_unknown: UnknownEvents = declare(
        "allow", one_of(UnknownEvents), "What happens to appended events for whose name there is no schema."
    )
