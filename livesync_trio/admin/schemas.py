"""JSON schemas of the answers, for the OpenAPI document; the tests hold every real answer against them."""

from collections.abc import Mapping
from typing import Final

from livesync_trio.admin.declaring import Schema

TEXT: Final[Schema] = {"type": "string"}
TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
NUMBER: Final[Schema] = {"type": "integer"}
NUMBER_OR_NULL: Final[Schema] = {"type": ["integer", "null"]}
TRUTH: Final[Schema] = {"type": "boolean"}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
ANYTHING: Final[Schema] = {}


def thing(members: Mapping[str, Schema]) -> Schema:
    """An object with exactly these members."""
    return {
        "type": "object",
        "properties": dict(members),
        "required": list(members),
        "additionalProperties": False,
    }


def page(name: str, of: Schema, following: Schema, **more: Schema) -> Schema:
    """A list, and where the next page begins; null on the last one."""
    return thing({name: {"type": "array", "items": of}, "next": following, **more})


TALLY: Final[Schema] = {"type": "object", "additionalProperties": NUMBER}

INFO: Final = thing(
    {
        "version": TEXT,
        "engine": TEXT,
        "database": TEXT,
        "startedAt": TIME,
        "uptimeSeconds": {"type": "number"},
        "healthy": TRUTH,
        "health": {"type": "object"},
        "counters": {"type": "object", "additionalProperties": {"anyOf": [NUMBER, TALLY]}},
    }
)

STORE: Final = thing(
    {
        "storeId": TEXT,
        "head": NUMBER,
        "backendId": TEXT,
        "events": NUMBER,
        "bytes": NUMBER,
        "createdAt": TIME,
        "lastPushAt": {"type": ["string", "null"], "format": "date-time"},
        "active": TRUTH,
        "peers": NUMBER,
    }
)
STORES: Final = page("stores", STORE, TEXT_OR_NULL)

EVENT: Final = thing(
    {
        "seqNum": NUMBER,
        "parentSeqNum": NUMBER,
        "name": TEXT,
        "args": ANYTHING,
        "clientId": TEXT,
        "sessionId": TEXT,
        "createdAt": TIME,
    }
)
EVENTS: Final = page("events", EVENT, NUMBER_OR_NULL)

SESSION: Final = thing(
    {
        "clientId": TEXT,
        "sessionId": TEXT,
        "events": NUMBER,
        "firstSeqNum": NUMBER,
        "lastSeqNum": NUMBER,
        "firstAt": TIME,
        "lastAt": TIME,
    }
)
SESSIONS: Final = page("sessions", SESSION, NUMBER_OR_NULL)

RESET: Final = thing({"storeId": TEXT, "backendId": TEXT, "head": NUMBER})

CONNECTION: Final = thing(
    {
        "connectionId": NUMBER,
        "storeId": TEXT,
        "address": TEXT,
        "user": TEXT_OR_NULL,
        "generation": {"enum": ["0.3", "0.4", "next", "unknown"]},
        "transport": {"const": "websocket"},
        "since": TIME,
        "lastHeardAt": TIME,
        "openPulls": NUMBER,
        "following": NUMBER,
        "lagEvents": NUMBER,
        "queuedBytes": NUMBER,
    }
)
CONNECTIONS: Final = page("connections", CONNECTION, NUMBER_OR_NULL, scope={"const": "this server"})

CLOSING: Final = thing({"connectionId": NUMBER, "storeId": TEXT, "closing": {"const": True}})

CONFIG: Final = thing(
    {
        "settings": {
            "type": "array",
            "items": thing(
                {
                    "name": TEXT,
                    "env": TEXT,
                    "value": {"type": ["string", "number", "boolean", "array", "null"], "items": TEXT},
                    "secret": TRUTH,
                    "set": TRUTH,
                    "origin": TEXT,
                }
            ),
        }
    }
)

ERROR: Final = thing({"error": thing({"code": TEXT, "message": TEXT})})
