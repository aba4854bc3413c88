"""Stored events are told to another service: signed, in order for each store, again and again until it has them.

    WEBHOOK_URL=https://app.example/hooks/sync WEBHOOK_SECRET=… LIVESYNC_HOOKS=examples/webhook.py livesync serve

`on_push` hands what is to be told to `on_push_res`, which tells it only when the push was stored. The receiver checks
`x-signature`, which is `sha256=` and the HMAC of `x-timestamp`, a dot and the body, and refuses old timestamps.

What waits is kept in memory: it is told at least once as long as the server runs, and what waited when it ended is not
told. A receiver that must not miss anything pulls the store as a client does, and takes the webhook as a sign to do so.
"""

import hashlib
import hmac
import json
import os
import queue
import threading
import time
import urllib.error
import urllib.request

URL = os.environ["WEBHOOK_URL"]
SECRET = os.environ["WEBHOOK_SECRET"].encode()
PAUSE_FIRST_S = float(os.environ.get("WEBHOOK_PAUSE_S", "1"))
PAUSE_MAX_S = 300.0
WAITING_MAX = 10_000
ANSWER_LIMIT_S = 10.0

_waiting = queue.Queue(WAITING_MAX)


def on_push(batch, context):
    """What is to be told, if the push is stored."""
    events = [{"seqNum": event.seq_num, "name": event.name, "args": event.args} for event in batch]
    return {"storeId": context.store_id, "user": context.user and context.user.id, "events": events}


def on_push_res(result, context):
    if result.refusal is None:
        try:
            _waiting.put_nowait(result.annotation)
        except queue.Full:
            raise RuntimeError("The webhook is so far behind that this push is not told.") from None


def _tell(message):
    """Send one message. Raises OSError when the receiver does not answer with success."""
    body = json.dumps(message).encode()
    timestamp = str(int(time.time()))
    signature = hmac.new(SECRET, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {"content-type": "application/json", "x-timestamp": timestamp, "x-signature": f"sha256={signature}"}
    with urllib.request.urlopen(urllib.request.Request(URL, body, headers), timeout=ANSWER_LIMIT_S):
        pass


def _tell_all():
    while True:
        message, pause_s = _waiting.get(), PAUSE_FIRST_S
        while True:
            try:
                _tell(message)
                break
            except urllib.error.HTTPError as refused:  # a status of 4xx or 5xx
                refused.close()
            except OSError:
                pass
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)


threading.Thread(target=_tell_all, name="webhook", daemon=True).start()
