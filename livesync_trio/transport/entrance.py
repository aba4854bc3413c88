"""Who may come in: everybody who may object is asked, the cheap ones first.

Owns the order of asking. Each who is asked has a room of its own: origins (`cors`), names of stores and rates
(`guards`), identity and claims (`authentication`).
"""

import attrs
import trio

from livesync_trio.connection.entitlement import Entitlement
from livesync_trio.errors import Refusal
from livesync_trio.fairness import Visitor
from livesync_trio.hooks import HookContext
from livesync_trio.transport.authentication import Authentication
from livesync_trio.transport.cors import Cors
from livesync_trio.transport.guards import Guards


async def admit(
    context: HookContext, visitor: Visitor | None, guards: Guards, cors: Cors, authentication: Authentication
) -> tuple[HookContext, Entitlement] | Refusal:
    """Decide about one WebSocket or HTTP request.

    Args:
        context: what is known of it.
        visitor: for a WebSocket, which is counted for it as long as it lasts; None for a request.
        guards: rates and names of stores.
        cors: which origins may come.
        authentication: whose identity and claims count.

    Returns:
        What hooks are told from now on, and what the client may do; or the first refusal.
    """
    fairness, host = guards.fairness, context.client_host
    refusal: Refusal | None = (
        cors.refusal(context.headers.get("origin"))
        or guards.store_ids.refusal(context.store_id)
        or fairness.arrival_from(host, trio.current_time())
    )
    if refusal is not None:
        return refusal
    admission = await authentication.check(context)
    if isinstance(admission, Refusal):
        return admission
    user = None if admission.user is None else admission.user.id
    refusal = fairness.arrival_at(user, context.store_id, trio.current_time())
    if refusal is None and visitor is not None:
        refusal = visitor.enter_as(user, host)
    if refusal is not None:
        return refusal
    meter = fairness.meter(user, host, context.store_id)
    return attrs.evolve(context, user=admission.user), Entitlement(
        admission.may_push, admission.expires_s, admission.asks_to_push, meter, guards.quotas
    )
