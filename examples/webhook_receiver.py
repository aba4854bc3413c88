"""Receives webhooks: believes signed messages only, skips what it has, and answers when it has stored the rest.

    WEBHOOK_SECRET=whsec_… python examples/webhook_receiver.py 9000

Only Python itself is needed. The library `standardwebhooks` does what `check` does. Where `store` keeps its answers in
memory, keep them in your database, together with what you make of the events.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRETS = [base64.b64decode(text.removeprefix("whsec_")) for text in os.environ["WEBHOOK_SECRET"].split()]
TOLERANCE_S = 300
BODY_MAX_BYTES = 64 * 1024 * 1024

places = {}  # by store: the identity of its log, and the number of the last event we have


def check(headers, body):
    """Whether a message was signed with one of our secrets, not long ago."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE_S:
        return False
    signed = f"{message_id}.{timestamp}.".encode() + body
    wanted = [base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in SECRETS]
    given = [each.removeprefix("v1,") for each in headers.get("webhook-signature", "").split(" ")]
    return any(hmac.compare_digest(one, other) for one in wanted for other in given)


def store(message):
    """Take what we do not have yet; raise to have it sent again."""
    data = message["data"]
    if message["type"] == "store.reset":
        places[data["storeId"]] = (data["backendId"], 0)
        print(f"{data['storeId']} begins anew", flush=True)
    elif message["type"] == "store.deleted":
        places.pop(data["storeId"], None)
        print(f"{data['storeId']} is gone", flush=True)
    elif message["type"] == "store.events":
        identity, known = places.get(data["storeId"], (data["backendId"], 0))
        if identity != data["backendId"]:
            known = 0
        for event in data["events"]:
            if event["seqNum"] > known:
                print(f"{data['storeId']} e{event['seqNum']} {event['name']} {json.dumps(event['args'])}", flush=True)
        places[data["storeId"]] = (data["backendId"], max(known, data["upTo"]))


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if length > BODY_MAX_BYTES:
            self.close_connection = True
            return self.answer(413)
        body = self.rfile.read(length)
        if not check(self.headers, body):
            return self.answer(401)
        store(json.loads(body))
        return self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    print(f"receiving on http://127.0.0.1:{server.server_address[1]}/", flush=True)
    server.serve_forever()
