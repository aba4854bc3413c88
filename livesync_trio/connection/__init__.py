"""One connection, whatever its transport: what a peer may ask, and how it gets its answers in order.

`outbox` bounds what is queued for a peer; `live` is a live pull, a cursor that catches up and then follows; `peer` owns
the tasks of a connection; `rpc_peer` and `v3_peer` speak the generations; `http_rpc` serves single HTTP requests.
"""
