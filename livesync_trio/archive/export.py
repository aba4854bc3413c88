"""From a database into an export file.

Owns how a file comes about: which stores, in which order, and how one that was interrupted is continued.
"""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import attrs

from livesync_trio.archive.entries import Broken
from livesync_trio.archive.files import Differs, OutFile
from livesync_trio.archive.jsonl import Header, Sections
from livesync_trio.archive.jsonl_reading import line_of
from livesync_trio.archive.reading import OnEvents, log_entries, unheard
from livesync_trio.errors import StoreDamaged
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Reader


@attrs.frozen
class Exported:
    """What came of an export.

    Attributes:
        stores: how many stores are in the file.
        events: how many events.
        resumed_events: how many of them were there already from an interrupted export.
        size_bytes: size of the file, before compression.
    """

    stores: int
    events: int
    resumed_events: int
    size_bytes: int


Check = Callable[[Path, Exported], object]
"""Reads the file of an export, which must hold what was written; raises CommandError when it does not."""


def _trusted(_part: Path, _done: Exported) -> None:
    """What was written is taken to be there."""


def export(
    reader: Reader,
    stores: Iterable[tuple[StoreId, LogState]],
    name: str,
    *,
    overwrite: bool = False,
    resume: bool = True,
    protected: Collection[Path] = (),
    on_events: OnEvents = unheard,
    check: Check = _trusted,
) -> Exported:
    """Write stores into a file, each up to the head it is given with.

    Memory does not grow with the stores. When it is interrupted, `<name>.part` stays, and the same export goes on
    behind it. What is there is compared with the log on the way, line by line; where it differs, all is written anew.

    Args:
        reader: where the stores are kept.
        stores: which, in the order of the file.
        name: path of the file; `.gz` compresses it; `-` is standard output.
        overwrite: replace a file of that name.
        resume: go on with what was begun, if it fits; leave what is written when this run is interrupted.
        protected: files of the database, which are never replaced.
        on_events: told of progress.
        check: looks at the file before it gets its name.

    Raises:
        CommandError: the file exists, cannot be written, or did not pass the check.
        StoreDamaged, StorageUnavailable, LogReplaced: as `reading.log_entries`.
    """
    wanted = list(stores)
    with OutFile(name, overwrite=overwrite, resume=resume, protected=protected) as out:
        if out.kept_line():
            try:
                return _written(reader, wanted, out, on_events, check)
            except (Differs, StoreDamaged):
                out.begin_anew()
        return _written(reader, wanted, out, on_events, check)


def _written(
    reader: Reader, wanted: list[tuple[StoreId, LogState]], out: OutFile, on_events: OnEvents, check: Check
) -> Exported:
    sections, events, resumed = Sections(), 0, 0
    for store_id, log in wanted:
        header = _begun(out.kept_line(), store_id, log) or Header(store_id, log.backend_id, log.head, log.event_count)
        out.write(sections.begin(header))
        log = attrs.evolve(log, head=header.head, event_count=header.events)  # noqa: PLW2901
        for entry in log_entries(reader, store_id, log, on_events=on_events):
            out.write(sections.entry(entry))
            events += 1
            resumed += out.resuming
        out.write(sections.end(header))
    out.write(sections.file_end())
    done = Exported(len(wanted), events, resumed, out.written_bytes)
    out.finish(lambda part: check(part, done))
    return done


def _begun(line: bytes, store_id: StoreId, log: LogState) -> Header | None:
    """The header of an interrupted export of this log, which has only grown since; None when it is none of this log."""
    try:
        header = line_of(line) if line.endswith(b"\n") else None
    except Broken:
        return None
    if not isinstance(header, Header) or (header.store_id, header.backend_id) != (store_id, log.backend_id):
        return None
    return header if header.head <= log.head and header.events <= log.event_count else None
