"""The rules of an event log: which batch may be appended, which numbers events get, what they must look like.

Pure: no Trio, no sockets, no clocks, no logging.
"""
