"""The recorded sessions of real LiveStore clients and servers, replayed against a running livesync_trio (see
README.md)."""
