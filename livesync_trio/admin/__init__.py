"""The control plane: what operators ask of a running server, and what they may do with it (docs/control-plane.md).

Reads snapshots that the layers below make of themselves, and asks stores through their mailbox; never reaches into an
actor or a connection. Nothing of sync depends on it: no room imports it, and `app` does so only when it is switched on.
"""
