"""The rules of an event log: which batch may be appended, how a run of events becomes pages.

Pure: no Trio, no sockets, no clocks, no logging.
"""
