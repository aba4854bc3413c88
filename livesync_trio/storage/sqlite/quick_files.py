"""Looking at a file without giving up the interpreter lock.

Every call in `os` gives it up, and beside a busy event loop the writer thread then waits until it has won it back: up
to Python's switch interval, five milliseconds, several times a commit. What is asked here is answered from the kernel's
caches in a microsecond: names that are looked up with every commit, and the first bytes of a file that are read with
every commit. Where the C library cannot be called (not Linux, or a very old one), `os` is.
"""

import ctypes
import os
from collections.abc import Callable
from typing import Final

Identity = bytes | tuple[int, int]
"""Device and inode, in a form to be compared with others of this process."""

_AT_FDCWD: Final = -100
_AT_STATX_DONT_SYNC: Final = 0x4000
_STATX_INO: Final = 0x100
_STATX_BYTES: Final = 256
_INODE: Final = slice(32, 40)
_DEVICE: Final = slice(136, 144)
"""Where `struct statx` has them (statx(2)); its layout is the same on every architecture."""


def identity_of(path: str) -> Callable[[], Identity]:
    """What asks for the identity of whatever is at a path; it raises OSError as `os.stat` does."""
    statx = _function("statx", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p)
    if statx is None:
        return lambda: _identity(path)
    name, struct_statx = os.fsencode(path), ctypes.c_char * _STATX_BYTES

    def found() -> Identity:
        answer = struct_statx()  # one a call: several threads ask
        if statx(_AT_FDCWD, name, _AT_STATX_DONT_SYNC, _STATX_INO, answer) != 0:
            return _identity(path)  # it fails there as well, with the right exception
        raw = answer.raw
        return raw[_INODE] + raw[_DEVICE]

    return found


def beginning_of(descriptor: int, size_bytes: int) -> Callable[[], bytes]:
    """What reads the first bytes of an open file."""
    pread = _function("pread", ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long)
    if pread is None:
        return lambda: os.pread(descriptor, size_bytes, 0)
    array = ctypes.c_char * size_bytes

    def read() -> bytes:
        buffer = array()
        count = pread(descriptor, buffer, size_bytes, 0)
        return buffer.raw[:count] if count >= 0 else os.pread(descriptor, size_bytes, 0)

    return read


def _identity(path: str) -> Identity:
    status = os.stat(path)  # noqa: PTH116 - `Path.stat` takes twice as long
    return status.st_dev, status.st_ino


def _function(name: str, *arguments: type) -> "Callable[..., int] | None":
    """A function of the C library that is called with the interpreter lock held; None when there is none."""
    if os.uname().sysname != "Linux":
        return None
    try:
        function = getattr(ctypes.PyDLL(None), name)
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = arguments, ctypes.c_int if name == "statx" else ctypes.c_ssize_t
    found: Callable[..., int] = function
    return found
