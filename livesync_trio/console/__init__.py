"""The console: the control plane as pages for a person (docs/console.md, decision 0021).

Pages are made on the server from the same functions that answer the control plane's API, so a screen shows nothing that
cannot be had there; what a person does on a page is a request to that API. Nobody imports this package while
`LIVESYNC_CONSOLE` is off.
"""

from livesync_trio.console.site import Console

__all__ = ["Console"]
