"""The stores: one actor each, which alone appends to its log (invariants 1 and 2).

`handle.StoreHandle` is the only door: whoever wants something of a store posts a command through it.
"""
