"""The last lines of the log and the last acts of the audit record, kept in memory while the console is switched on."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from livesync_trio.admin.declaring import PAGE, Answer, Caller, Limit, Request, Time
from livesync_trio.admin.server_view import ServerView
from livesync_trio.config import LogLevel
from livesync_trio.limits import SEQ_NUM_MAX
from livesync_trio.telemetry import LOG_LEVELS, RecentLine, recent_lines

_T = TypeVar("_T")

Containing = Annotated[str, Meta(max_length=200, description="Entries that hold this text only, in any case.")]


class ListLog(Request, frozen=True):
    """Which lines."""

    level: Annotated[LogLevel, Meta(description="Lines of this level and more severe ones.")] = "debug"
    component: Annotated[str, Meta(description="Lines of this component only.")] = ""
    containing: Containing = ""
    before: (
        Annotated[int, Meta(ge=0, le=SEQ_NUM_MAX, description="Older lines only; what `next` said.")] | UnsetType
    ) = UNSET
    limit: Limit = PAGE


class LogLine(Answer, frozen=True):
    """One line."""

    number: int
    at: Time
    level: str
    component: str
    message: str
    fields: dict[str, str]


class LogPage(Answer, frozen=True):
    """Some lines, newest first, and where the next page begins."""

    lines: list[LogLine]
    next: int | None
    scope: Literal["this server, since its start"] = "this server, since its start"


class ListActs(Request, frozen=True):
    """Which acts."""

    act: Annotated[str, Meta(description="Acts of this kind only, such as `reset`.")] = ""
    store_id: Annotated[str, Meta(description="Acts on this store only.")] = ""
    containing: Containing = ""
    limit: Limit = PAGE


class ActPage(Answer, frozen=True):
    """Some acts, newest first, each as it stands in the audit record."""

    acts: list[dict[str, Any]]
    more: bool
    recorded: bool


async def list_log(server: ServerView, asked: ListLog, _caller: Caller) -> LogPage:  # noqa: ARG001
    """The last lines of the log."""
    least = LOG_LEVELS.index(asked.level)
    before = None if asked.before is UNSET else asked.before
    fitting = (
        line
        for line in recent_lines.newest_first()
        if _severity(line.level) >= least
        and asked.component in ("", line.component)
        and (before is None or line.number < before)
        and _holds(asked.containing, (line.event, line.component, *line.fields, *line.fields.values()))
    )
    shown, more = _some(fitting, asked.limit)
    return LogPage(lines=[_told(line) for line in shown], next=shown[-1].number if more else None)


async def list_acts(server: ServerView, asked: ListActs, _caller: Caller) -> ActPage:
    """The last acts: connects, refusals, resets and what operators did."""
    fitting = (
        act
        for line in reversed(server.audit.recent or ())
        if _holds(asked.containing, (line.decode(),))
        for act in [msgspec.json.decode(line)]
        if asked.act in ("", act["act"]) and asked.store_id in ("", act.get("store", ""))
    )
    shown, more = _some(fitting, asked.limit)
    return ActPage(acts=shown, more=more, recorded=server.config().audit_log is not None)


def _severity(level: str) -> int:
    return LOG_LEVELS.index(level) if level in LOG_LEVELS else len(LOG_LEVELS)


def _holds(wanted: str, texts: Iterable[str]) -> bool:
    return not wanted or any(wanted.casefold() in text.casefold() for text in texts)


def _some(found: Iterable[_T], limit: int) -> tuple[list[_T], bool]:
    """So many of them, and whether there are more."""
    taken: list[_T] = []
    for each in found:
        if len(taken) == limit:
            return taken, True
        taken.append(each)
    return taken, False


def _told(line: RecentLine) -> LogLine:
    return LogLine(
        number=line.number,
        at=line.at,
        level=line.level,
        component=line.component,
        message=line.event,
        fields=line.fields,
    )
