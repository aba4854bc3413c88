"""The wire: bytes ⇄ messages of all client generations.

Pure: no Trio, no sockets, no clocks, no logging. What is written here follows `../shared/wire/SPEC.md`, cited by
section.
"""
