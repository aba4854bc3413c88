"""The server as a whole: the only layer that knows every other, and which engine a database URL stands for."""

from livesync_trio.app.running import empty_engine, engine_of, run, serve, shared_engine
from livesync_trio.app.server import OnControl, OnReady, Server

__all__ = ["OnControl", "OnReady", "Server", "empty_engine", "engine_of", "run", "serve", "shared_engine"]
