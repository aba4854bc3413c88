"""The control plane: what operators ask of a running server, and what they may do with it (docs/control-plane.md).

Reads snapshots that the layers below make of themselves, and asks stores through their mailbox; never reaches into an
actor or a connection. Sync does not depend on it: no other package imports it, and `app` only when it is switched on.
"""
