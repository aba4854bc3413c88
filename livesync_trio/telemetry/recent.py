"""The last lines of the log, kept in memory for whoever shows them; nothing is kept before somebody asks for it."""

import traceback
from collections import deque
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Final

import attrs

RECENT_LINES: Final = 2_000
"""Lines that are kept."""

RECENT_FIELD_MAX_CHARACTERS: Final = 1_000
RECENT_FIELDS_MAX: Final = 24
"""What of one line is kept; a traceback may be eight times as long as another field."""


@attrs.frozen
class RecentLine:
    """One line.

    Attributes:
        number: counts on from 1.
        at: when, as the wire writes times.
        level: how severe.
        component: who logged it.
        event: the message.
        fields: what else belongs to it, as text.
    """

    number: int
    at: str
    level: str
    component: str
    event: str
    fields: dict[str, str]


class RecentLines:
    """A bounded ring of lines."""

    def __init__(self) -> None:
        self.total = 0
        """Lines so far."""
        self._kept: deque[RecentLine] | None = None

    def keep(self) -> None:
        """Keep lines from now on."""
        if self._kept is None:
            self._kept = deque(maxlen=RECENT_LINES)

    def newest_first(self) -> list[RecentLine]:
        """What is kept."""
        return list(reversed(self._kept or ()))

    def __call__(self, _logger: Any, level: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Keep a line on its way (a processor of structlog); it goes on as it came."""
        if self._kept is not None:
            self.total += 1
            known = {"event", "level", "component", "timestamp", "exc_info"}
            fields = {name: _text(value) for name, value in list(line.items())[:RECENT_FIELDS_MAX] if name not in known}
            if line.get("exc_info"):
                fields["traceback"] = _trace(line["exc_info"])
            at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            component, event = _text(line.get("component", "")), _text(line.get("event", ""))
            self._kept.append(RecentLine(self.total, at, level, component, event, fields))
        return line


def _text(value: object) -> str:
    return str(value)[:RECENT_FIELD_MAX_CHARACTERS].encode(errors="replace").decode()


def _trace(given: object) -> str:
    """The end of a traceback, which says what happened; without the values of local variables."""
    lines = traceback.format_exception(given) if isinstance(given, BaseException) else [traceback.format_exc()]
    return "".join(lines)[-8 * RECENT_FIELD_MAX_CHARACTERS :].encode(errors="replace").decode()


recent_lines: Final = RecentLines()
"""Those of this process."""
