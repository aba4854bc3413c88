"""The table of endpoints, from which routing, reading of parameters and the OpenAPI document are made."""

from typing import Final

import msgspec

from livesync_trio.admin import connections, events, openapi, process, schemas, stores, tail
from livesync_trio.admin.declaring import EVENT_STREAM, Answer, Asked, Parameter, Route
from livesync_trio.admin.rooms import Rooms
from livesync_trio.limits import ADMIN_PAGE, ADMIN_PAGE_MAX, SEQ_NUM_MAX

_STORE: Final = Parameter("storeId", "The store, exactly as clients name it.", required=True)
_LIMIT: Final = Parameter(
    "limit", "Most entries of the answer.", "number", default=ADMIN_PAGE, low=1, high=ADMIN_PAGE_MAX
)
_AFTER_EVENT: Final = Parameter(
    "after", "Events behind this number only; what `next` said.", "number", low=-SEQ_NUM_MAX, high=SEQ_NUM_MAX
)


async def show_document(_rooms: Rooms, _asked: Asked) -> Answer:
    """The OpenAPI document."""
    return Answer(msgspec.json.encode(openapi.document(ROUTES)))


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        "/api/v1/info",
        "info",
        "What this server is and how it is.",
        process.show_info,
        schemas.INFO,
    ),
    Route(
        "GET",
        "/api/v1/stores",
        "listStores",
        "Stores in the order of their names, page by page.",
        stores.list_stores,
        schemas.STORES,
        (
            Parameter("containing", "Stores whose name has this text in it only."),
            Parameter("after", "Stores whose name comes after this one only; what `next` said."),
            _LIMIT,
        ),
    ),
    Route(
        "GET",
        "/api/v1/store",
        "showStore",
        "One store.",
        stores.show_store,
        schemas.STORE,
        (_STORE,),
    ),
    Route(
        "GET",
        "/api/v1/store/events",
        "listEvents",
        "Events of a store, page by page; a page may be empty although `next` names another.",
        events.list_events,
        schemas.EVENTS,
        (
            _STORE,
            _AFTER_EVENT,
            _LIMIT,
            Parameter("name", "Events of this name only."),
            Parameter("clientId", "Events of this client only."),
            Parameter("sessionId", "Events of this session only."),
            Parameter("since", "Events pushed at this moment or later only.", "time"),
            Parameter("until", "Events pushed before this moment only.", "time"),
        ),
    ),
    Route(
        "GET",
        "/api/v1/store/sessions",
        "listSessions",
        "Client sessions seen in the next part of a log; a session may come again in the next one.",
        events.list_sessions,
        schemas.SESSIONS,
        (_STORE, _AFTER_EVENT),
    ),
    Route(
        "GET",
        "/api/v1/store/tail",
        "tailStore",
        "Events as they come, as server-sent events; resumes behind `Last-Event-ID`.",
        tail.tail_store,
        None,
        (
            _STORE,
            Parameter(
                "after",
                "Begin behind this number; at the head when absent.",
                "number",
                low=-SEQ_NUM_MAX,
                high=SEQ_NUM_MAX,
            ),
        ),
        content_type=EVENT_STREAM,
    ),
    Route(
        "POST",
        "/api/v1/store/reset",
        "resetStore",
        "Give a store a new identity and an empty log.",
        stores.reset_store,
        schemas.RESET,
        body={"storeId": "string", "confirm": "string"},
        audited="reset",
    ),
    Route(
        "GET",
        "/api/v1/connections",
        "listConnections",
        "The open WebSockets of this server, page by page.",
        connections.list_connections,
        schemas.CONNECTIONS,
        (
            Parameter("storeId", "Connections to this store only."),
            Parameter("after", "Connections with a greater number only; what `next` said.", "number", high=SEQ_NUM_MAX),
            _LIMIT,
        ),
    ),
    Route(
        "POST",
        "/api/v1/connections/close",
        "closeConnection",
        "Close a connection of this server in order; its client comes back.",
        connections.close_connection,
        schemas.CLOSING,
        body={"connectionId": "integer", "storeId": "string"},
        audited="close",
    ),
    Route(
        "GET",
        "/api/v1/config",
        "showConfig",
        "Every setting, its value and where it was given; of secrets only whether there is one.",
        process.show_config,
        schemas.CONFIG,
    ),
    Route(
        "GET",
        "/api/v1/openapi.json",
        "showDocument",
        "This interface as an OpenAPI 3.1 document.",
        show_document,
        {"type": "object"},
    ),
    Route(
        "GET",
        "/metrics",
        "showMetrics",
        "Metrics in Prometheus' text format.",
        process.show_metrics,
        None,
        content_type="text/plain",
    ),
)
