"""From a database into an export file.

Owns how a file comes about: which stores, in which order, and how one that was interrupted is continued.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import attrs

from livesync_trio.archive.entries import Broken, Entry
from livesync_trio.archive.files import STANDARD_OUTPUT, OutFile, next_line, part_of
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
        resume: go on with what was begun, if it fits.
        on_events: told of progress.
        check: looks at the file before it gets its name.

    Raises:
        CommandError: the file exists, cannot be written, or did not pass the check.
        StoreDamaged, StorageUnavailable, LogReplaced: as `reading.log_entries`.
    """
    wanted = list(stores)
    begun = _begun(name, wanted) if resume else _Begun()
    sections = Sections(begun.checksums)
    with OutFile(name, overwrite=overwrite, keep_bytes=begun.kept_bytes) as out:
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


def _begun(name: str, wanted: list[tuple[StoreId, LogState]]) -> _Begun:
    """What an interrupted export of the same stores has left; nothing when it does not fit."""
    part = part_of(Path(name))
    if name == STANDARD_OUTPUT or name.endswith(".gz") or not part.exists():
        return _Begun()
    begun, reading = _Begun(), Reading()
    begun.checksums = reading.sums
    with part.open("rb") as file:
        while text := next_line(file, part):
            try:
                line = reading.take(text)
            except Broken:
                break
            match line:
                case Header():
                    begun.open, begun.head = line, ROOT_SEQ_NUM
                case Entry():
                    begun.head = line.seq_num
                    begun.events += 1
                case End():
                    assert begun.open is not None
                    begun.headers.append(begun.open)
                    begun.open = None
                case _:
                    return _Begun()  # complete, but never got its name: anew
            begun.kept_bytes += len(text)
    headers = [*begun.headers, *([] if begun.open is None else [begun.open])]
    return begun if _fits(headers, wanted) else _Begun()


def _fits(headers: list[Header], wanted: list[tuple[StoreId, LogState]]) -> bool:
    """Whether these sections begin what is wanted: a log only grows, and a reset changes its identity."""
    return len(headers) <= len(wanted) and all(
        (header.store_id, header.backend_id) == (store_id, log.backend_id) and header.head <= log.head
        for header, (store_id, log) in zip(headers, wanted, strict=False)
    )
