"""Hypercorn's log lines, as lines of ours."""

import logging
from typing import Any

from hypercorn.logging import Logger

from livesync_trio.telemetry import get_logger

_log = get_logger("admin")


class HypercornLog(Logger):
    """Takes the place of Hypercorn's logger. Only what is wrong is of interest; `plane` tells the rest itself."""

    async def access(self, *_: Any) -> None:
        """Requests are not logged; acts are recorded (`audit`)."""

    async def critical(self, message: str, *args: Any, **_: Any) -> None:
        """Something is badly wrong."""
        await self.log(logging.CRITICAL, message, *args)

    async def error(self, message: str, *args: Any, **_: Any) -> None:
        """Something is wrong."""
        await self.log(logging.ERROR, message, *args)

    async def warning(self, message: str, *args: Any, **_: Any) -> None:
        """Something looks wrong."""
        await self.log(logging.WARNING, message, *args)

    async def info(self, message: str, *args: Any, **_: Any) -> None:
        """Where it listens, which we know."""

    async def debug(self, message: str, *args: Any, **_: Any) -> None:
        """Nothing for us."""

    async def exception(self, message: str, *args: Any, **_: Any) -> None:
        """An exception of the app that the app did not turn into an answer."""
        _log.error("fault in a request to the control plane", what=message % args if args else message, exc_info=True)

    async def log(self, level: int, message: str, *args: Any, **_: Any) -> None:
        """Any line."""
        _log.log(level, "from hypercorn", what=message % args if args else message)
