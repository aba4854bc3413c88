"""Stored events are told to another service: signed, in order for each store, again and again until it has them.

    WEBHOOK_URL=https://app.example/hooks/sync WEBHOOK_SECRET=… LIVESYNC_HOOKS=examples/webhook.py livesync serve

`on_push` hands what is to be told to `on_push_res`, which tells it only when the push was stored. The receiver checks
`x-signature`, which is `sha256=` and the HMAC of `x-timestamp`, a dot and the body, and refuses old timestamps.

Every store has a queue of its own: a receiver that cannot take one store's push holds up nobody else's. Failures of the
network and answers of 5xx, 408, 425 and 429 are tried again, with growing pauses. Any other answer but success is the
receiver's last word: that push is given up, which the log says, and the store's next one is told.

What waits is kept in memory, up to a number of bytes for each store and for all: it is told at least once as long as
the server runs, and what waited when it ended is not told. A receiver that must not miss anything pulls the store as a
client does, and takes the webhook as a sign to do so.
"""

import collections
import hashlib
import heapq
import hmac
import itertools
import json
import logging
import os
import threading
import time
import urllib.error
import urllib.request

URL = os.environ["WEBHOOK_URL"]
SECRET = os.environ["WEBHOOK_SECRET"].encode()
PAUSE_FIRST_S = float(os.environ.get("WEBHOOK_PAUSE_S", "1"))
PAUSE_MAX_S = 300.0
ANSWER_LIMIT_S = 10.0
SENDERS = 4
STORE_BYTES_MAX = int(os.environ.get("WEBHOOK_STORE_BYTES", "8_388_608"))
ALL_BYTES_MAX = int(os.environ.get("WEBHOOK_ALL_BYTES", "67_108_864"))
TRY_AGAIN = {408, 425, 429}

_log = logging.getLogger("webhook")


def on_push(batch, context):
    """What is to be told, if the push is stored."""
    events = [{"seqNum": event.seq_num, "name": event.name, "args": event.args} for event in batch]
    return {"storeId": context.store_id, "user": context.user and context.user.id, "events": events}


def on_push_res(result, context):
    if result.refusal is None:
        _outbox.put(result.annotation["storeId"], json.dumps(result.annotation).encode())


class Outbox:
    """What waits, in a queue for each store, and when each store is to be tried next."""

    def __init__(self):
        self._changed = threading.Condition()
        self._queues = {}
        self._bytes = collections.Counter()
        self._due = []  # (when, number, store): every store that waits and is not being told, once
        self._numbers = itertools.count()
        self._pauses = {}

    def put(self, store, body):
        """Tell this later. Raises RuntimeError when too much waits already."""
        with self._changed:
            if self._bytes[store] + len(body) > STORE_BYTES_MAX or self._bytes.total() + len(body) > ALL_BYTES_MAX:
                raise RuntimeError("The webhook is so far behind that this push is not told.")
            self._bytes[store] += len(body)
            if store in self._queues:
                self._queues[store].append(body)
            else:
                self._queues[store] = collections.deque([body])
                self._at(time.monotonic(), store)

    def take(self):
        """Wait for a store that is due: its name, and its oldest message, which stays in the queue."""
        with self._changed:
            while not self._due or self._due[0][0] > time.monotonic():
                self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
            store = heapq.heappop(self._due)[2]
            return store, self._queues[store][0]

    def done(self, store):
        """Its oldest message is told, or given up."""
        with self._changed:
            queue = self._queues[store]
            self._bytes[store] -= len(queue.popleft())
            self._pauses.pop(store, None)
            if queue:
                self._at(time.monotonic(), store)
            else:  # nothing is kept of stores that are silent
                del self._queues[store], self._bytes[store]

    def again(self, store):
        """Its oldest message is to be tried again."""
        with self._changed:
            pause_s = self._pauses.get(store, PAUSE_FIRST_S)
            self._pauses[store] = min(2 * pause_s, PAUSE_MAX_S)
            self._at(time.monotonic() + pause_s, store)

    def _at(self, when, store):
        heapq.heappush(self._due, (when, next(self._numbers), store))
        self._changed.notify()


_outbox = Outbox()


def _tell(body):
    """Send one message. Raises OSError when the receiver does not answer with success."""
    timestamp = str(int(time.time()))
    signature = hmac.new(SECRET, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {"content-type": "application/json", "x-timestamp": timestamp, "x-signature": f"sha256={signature}"}
    with urllib.request.urlopen(urllib.request.Request(URL, body, headers), timeout=ANSWER_LIMIT_S):
        pass


def _tell_all():
    while True:
        store, body = _outbox.take()
        try:
            _tell(body)
        except urllib.error.HTTPError as refused:
            refused.close()
            if refused.code >= 500 or refused.code in TRY_AGAIN:
                _outbox.again(store)
                continue
            _log.error("push of %d bytes to store %r given up: the receiver says %d", len(body), store, refused.code)
        except Exception as failed:
            _log.warning("store %r is not told yet: %s", store, failed)
            _outbox.again(store)
            continue
        _outbox.done(store)


for _ in range(SENDERS):
    threading.Thread(target=_tell_all, name="webhook", daemon=True).start()
