"""The few frames the replay sends by itself: a barrier before a connection is left, and pushes by somebody unseen."""

from __future__ import annotations

import json
from urllib.parse import unquote_plus

from .ledger import key_of
from .raw_json import loads
from .recording import store_in_url
from .script import PushAside

BARRIER_ID = 4_000_000_001
BARRIER_ID_V3 = "the-barrier"


def barrier(path: str, *, is_next: bool) -> str:
    """A pull of the whole history, in the protocol of ``path``. It is answered in its turn, which a Ping is not."""
    if is_v3(path):
        return f'{{"_tag":"WSMessage.PullReq","requestId":"{BARRIER_ID_V3}"}}'
    number = BARRIER_ID if is_next else f'"{BARRIER_ID}"'
    payload = f'{{"storeId":{_store_json(path)},"live":false,"cursor":{{"_tag":"None"}}}}'
    return f'{{"_tag":"Request","id":{number},"tag":"SyncWsRpc.Pull","payload":{payload},"headers":[]}}'


def answers_barrier(text: str) -> bool:
    """Whether a frame belongs to the barrier's answer."""
    return str(BARRIER_ID) in text or BARRIER_ID_V3 in text


def ends_barrier(text: str) -> bool:
    """Whether a frame of the barrier's answer is its last: the Exit, or the page after which nothing remains."""
    frame = loads(text, "batch", "values")
    return frame["_tag"] in ("Exit", "WSMessage.Error") or frame.get("remaining") == 0


def push(aside: PushAside) -> tuple[str, str]:
    """A push in the protocol of its path, and the key of its request in a ledger."""
    batch = f"[{','.join(event.text for event in aside.events)}]"
    if is_v3(aside.path):
        return f'{{"_tag":"WSMessage.PushReq","requestId":"{aside.request}","batch":{batch}}}', aside.request
    payload = f'{{"storeId":{_store_json(aside.path)},"batch":{batch},"backendId":{{"_tag":"None"}}}}'
    return f'{{"_tag":"Request","id":"1","tag":"SyncWsRpc.Push","payload":{payload},"headers":[]}}', key_of("1")


def is_v3(path: str) -> bool:
    """Whether 0.3 is spoken at this path (SPEC section 6)."""
    return "transport=" not in path


def _store_json(path: str) -> str:
    return json.dumps(unquote_plus(store_in_url(path)))
