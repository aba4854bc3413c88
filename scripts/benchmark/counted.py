"""Our server, counting the Python functions it calls: `python counted.py COUNTS serve …`, in the tree to be counted.

SIGUSR2 begins to count from zero; the next one writes what was counted to the file COUNTS, as JSON, and so on. A
resumed coroutine is a call, too. A turn is one look of Trio's loop at the kernel. `asked` are those calls of Python
code that ask the kernel for something; what SQLite and locks ask it for only `strace` sees.
"""

import json
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Final

ASKED: Final = frozenset(
    {"read", "write", "writev", "eventfd_write", "epoll.poll", "epoll.register", "epoll.unregister", "epoll.modify"}
)
"""Built-in functions, as Python names them, that are one system call each."""

_calls: Counter[object] = Counter()


def _note(frame: FrameType, event: str, what: Any) -> None:
    if event == "call":
        _calls[frame.f_code] += 1
    elif event == "c_call" and what.__qualname__ in ASKED:
        _calls[what.__qualname__] += 1


class _Switch:
    """What SIGUSR2 does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counting = False

    def __call__(self, *_: object) -> None:
        if self._counting:
            whole = self._path.with_suffix(".part")
            whole.write_text(json.dumps(_summary(_calls.copy())))
            whole.rename(self._path)
        self._counting = not self._counting
        _calls.clear()


def _summary(calls: Counter[Any]) -> dict[str, Any]:
    where: Counter[str] = Counter()
    turns = 0
    for code, number in calls.items():
        if isinstance(code, str):
            continue
        file = Path(code.co_filename)
        trio = "trio" in file.parts
        where["trio" if trio else file.parent.name if "livesync_trio" in file.parts else "others"] += number
        turns += number if trio and code.co_name == "get_events" else 0
    asked = {name: number for name, number in calls.items() if isinstance(name, str)}
    return {"calls": sum(where.values()), "turns": turns, "asked": asked, "where": dict(where.most_common())}


def main() -> int:
    """Run the server of the current directory."""
    sys.path[0] = str(Path.cwd())
    path = Path(sys.argv.pop(1))
    signal.signal(signal.SIGUSR2, _Switch(path))
    from livesync_trio.cli.main import main as serve  # noqa: PLC0415 - found in the tree that is counted

    threading.setprofile(_note)
    sys.setprofile(_note)
    return int(serve() or 0)


if __name__ == "__main__":
    raise SystemExit(main())
