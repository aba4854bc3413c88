"""The failing disk (`shim.c`): compiled when it is first wanted, armed while the server runs."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from enum import IntFlag
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
_CONTROL = struct.Struct("=11i")
_COUNTS_FROM = 5


class Call(IntFlag):
    """Calls that can be made to fail, alone or together."""

    WRITE = 1 << 1
    SYNC = 1 << 2
    OPEN = 1 << 3
    TRUNCATE = 1 << 4


def missing_programs() -> list[str]:
    """What is missing to compile it."""
    return [] if shutil.which("gcc") else ["gcc"]


def compiled(directory: Path) -> Path:
    """The shared library."""
    library = directory / "shim.so"
    if not library.exists():
        command = ["gcc", "-O1", "-fPIC", "-shared", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"]
        subprocess.run(command, check=True, capture_output=True)
    return library


class Shim:
    """The disk of one server: what to put into its environment, and the lever to make it fail."""

    def __init__(self, directory: Path, database: Path) -> None:
        self.journal = directory / "journal"
        control = directory / "control"
        control.write_bytes(bytes(_CONTROL.size))
        with control.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), _CONTROL.size)
        self.environment = {
            "LD_PRELOAD": str(compiled(directory)),
            "SHIM_PREFIX": str(database),
            "SHIM_CONTROL": str(control),
        }

    def arm(self, call: Call, error: int, *, passes: int = 0, times: int = 1, torn: int = 0) -> None:
        """Let `passes` calls pass and then `times` of them (-1: all that come) fail; counts from zero again."""
        self._control[:] = bytes(_CONTROL.size)
        self._control[4:] = _CONTROL.pack(call, passes, times, error, torn, *[0] * 6)[4:]
        self._control[:4] = struct.pack("=i", call)

    def disarm(self) -> None:
        """Let everything pass."""
        self._control[:4] = bytes(4)

    @property
    def injected(self) -> int:
        """Calls that failed since it was armed."""
        return sum(self.injected_by_call.values())

    @property
    def injected_by_call(self) -> dict[Call, int]:
        """The same by the kind of call."""
        counts = _CONTROL.unpack(self._control[:])[_COUNTS_FROM:]
        return {call: counts[call.bit_length() - 1] for call in Call}

    def close(self) -> None:
        """Let go of the lever."""
        self._control.close()

    @property
    def position(self) -> int:
        """How many bytes of journal there are."""
        try:
            return self.journal.stat().st_size
        except FileNotFoundError:
            return 0
