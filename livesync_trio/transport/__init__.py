"""The doors: HTTP/1.1 heads, WebSocket framing, HTTP RPC, and who may come in.

One port for everything. A door knows sockets and bytes; what the messages mean is not its business.
"""
