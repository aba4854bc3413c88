"""Conformance: the real LiveStore npm clients against a real server process.

Nothing here imports the server. It is started as a command and judged by what unmodified clients see of it, so the same
tests run against any server that speaks the protocol (see ``servers.py``).
"""
