"""Whether what LiveStore clients push fits the schemas of events, where the operator wants to know."""

from livesync_trio.access.client import Client
from livesync_trio.connection.recording import may_log
from livesync_trio.connection.surroundings import Surroundings
from livesync_trio.errors import Refusal
from livesync_trio.telemetry import get_logger
from livesync_trio.wire.messages import PushRequest

_log = get_logger("connection")


def refusal_to_misfit(surroundings: Surroundings, client: Client, request: PushRequest) -> Refusal | None:
    """The refusal of a push that does not fit, if such are refused; else it is logged and counted."""
    if surroundings.schemas is None or surroundings.schemas_of_pushes == "off":
        return None
    refusal = surroundings.schemas.refusal_of_events(request.events)
    if refusal is None or surroundings.schemas_of_pushes == "refuse":
        return refusal
    surroundings.counters.pushes_misfitting += 1
    if may_log(surroundings, client.context, "misfit"):
        _log.warning(
            "a push does not fit the schemas of events",
            store=client.context.store_id,
            peer=client.context.client_address,
            reason=refusal.message,
        )
    return None
