"""Where logs come from: export files, Cloudflare's tables, the FastAPI server's, and other servers over the wire.

Owns one reader for each. None changes what it reads.
"""
