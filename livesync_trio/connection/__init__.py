"""One connection, whatever its transport: what a peer may ask, and how it gets its answers in order.

`peer` owns the tasks of a connection and its end, `outbox` what is queued for it, bounded in bytes, and `peers` runs
all of them; `store_peer` adds the open requests to one store, `pushing` is the way of a push, `pulling` a live pull, a
cursor that catches up and then follows; `rpc_peer` and `v3_peer` speak the generations; `http_rpc` serves single HTTP
requests. `context` is what all of them share.
"""
