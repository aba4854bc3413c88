"""From a database into an export file.

Owns how a file comes about: which stores, in which order, and how one that was interrupted is continued.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import attrs

from livesync_trio.archive.entries import Broken, Entry
from livesync_trio.archive.files import OutFile, next_line, part_of
from livesync_trio.archive.jsonl import Checksums, End, Header, Sections
from livesync_trio.archive.jsonl_reading import Reading
from livesync_trio.archive.reading import OnEvents, log_entries, unheard
from livesync_trio.model import ROOT_SEQ_NUM, LogState, StoreId
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


@attrs.define
class _Begun:
    """What is usable of a file that was begun before: whole sections, and the whole lines of the last one."""

    headers: list[Header] = attrs.Factory(list)
    open: Header | None = None
    head: int = ROOT_SEQ_NUM
    events: int = 0
    kept_bytes: int = 0
    checksums: Checksums = attrs.Factory(Checksums)


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
    behind its last whole line: the same log gives the same lines, so the result is as without the interruption.

    Args:
        reader: where the stores are kept.
        stores: which, in the order of the file.
        name: path of the file; `.gz` compresses it; `-` is standard output.
        overwrite: replace a file of that name.
        resume: go on with what was begun, if it is what the database holds; leave it for the next run when this one
            fails. Without it, nothing is left of a run that fails.
        protected: files that must never be replaced; see `files.PartFile`.
        on_events: told of progress.
        check: looks at the file before it gets its name.

    Raises:
        CommandError: the file exists, cannot be written, or did not pass the check.
        StoreDamaged, StorageUnavailable, LogReplaced: as `reading.log_entries`.
    """
    wanted = list(stores)
    with OutFile(name, overwrite=overwrite, resumable=resume, protected=protected) as out:
        begun = _Begun()
        if out.resumable:
            begun = _begun(reader, out, part_of(Path(name)), wanted)
            out.keep(begun.kept_bytes)
        sections = Sections(begun.checksums)
        on_events(begun.events)
        events = begun.events
        for store_id, log in wanted[len(begun.headers) :]:
            header = Header(store_id, log.backend_id, log.head, log.event_count)
            after = ROOT_SEQ_NUM
            if begun.open is not None:
                header, after, begun.open = begun.open, begun.head, None
                log = attrs.evolve(log, head=header.head, event_count=header.events)  # noqa: PLW2901
            else:
                out.write(sections.begin(header))
            for entry in log_entries(reader, store_id, log, after, on_events):
                out.write(sections.entry(entry))
                events += 1
            out.write(sections.end(header))
        out.write(sections.file_end())
        done = Exported(len(wanted), events, begun.events, out.written_bytes)
        out.finish(lambda part: check(part, done))
        return done


def _begun(reader: Reader, out: OutFile, part: Path, wanted: list[tuple[StoreId, LogState]]) -> _Begun:
    """What an interrupted export has left; nothing when it is not, event by event, what the database holds."""
    begun, reading = _Begun(), Reading()
    begun.checksums = reading.sums
    ours: Iterator[Entry] = iter(())
    file = out.begun()
    while text := next_line(file, part):
        try:
            line = reading.take(text)
        except Broken:
            break
        match line:
            case Header():
                position = len(begun.headers)
                if position == len(wanted) or not _fits(line, *wanted[position]):
                    return _Begun()
                log = attrs.evolve(wanted[position][1], head=line.head, event_count=line.events)
                ours = log_entries(reader, line.store_id, log)
                begun.open, begun.head = line, ROOT_SEQ_NUM
            case Entry():
                if next(ours, None) != line:
                    return _Begun()
                begun.head = line.seq_num
                begun.events += 1
            case End():
                assert begun.open is not None
                begun.headers.append(begun.open)
                begun.open = None
            case _:
                return _Begun()  # complete, but never got its name: anew
        begun.kept_bytes += len(text)
    return begun


def _fits(header: Header, store_id: StoreId, log: LogState) -> bool:
    """Whether a section may be the beginning of a log, which only grows."""
    return (header.store_id, header.backend_id) == (store_id, log.backend_id) and (
        header.head <= log.head and header.events <= log.event_count
    )
