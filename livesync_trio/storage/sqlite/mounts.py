"""Where a file lies: the mount it is on, and whether it is a mount of its own.

Owns the reading of `/proc/self/mountinfo` (proc(5)); where there is none, what `stat` tells.
"""

import re
from pathlib import Path
from typing import Final

import attrs

_MOUNTS: Final = Path("/proc/self/mountinfo")
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")
"""How blanks and backslashes are written there."""


@attrs.frozen
class Mount:
    """One mount of this process's name space.

    Attributes:
        point: where it is.
        kind: the file system, as in `mount -t`.
    """

    point: Path
    kind: str


def mount_of(path: Path) -> Mount | None:
    """The mount that `path` is on.

    Args:
        path: absolute, without symbolic links.

    Returns:
        The mount; None where the system does not tell.
    """
    places = {path, *path.parents}
    return max(
        (mount for mount in _mounts() if mount.point in places),
        key=lambda mount: len(
            mount.point.parts
        ),  # of two on one point, the later one lies on top; `max` gives the first
        default=None,
    )


def is_mounted_alone(path: Path) -> bool:
    """Whether the file at `path` is a mount of its own: what lies beside it belongs to another directory.

    Args:
        path: as for `mount_of`; it exists.

    Raises:
        OSError: it cannot be looked at.
    """
    mount = mount_of(path)
    if mount is None:
        return path.stat().st_dev != path.parent.stat().st_dev
    return mount.point == path


def _mounts() -> list[Mount]:
    """All mounts, the newest first."""
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return []
    mounts = []
    for line in reversed(lines):
        before, _, after = line.partition(b" - ")
        point = _ESCAPED.sub(lambda code: bytes([int(code[1], 8)]), before.split(b" ")[4])
        kind = after.partition(b" ")[0]
        mounts.append(Mount(Path(point.decode(errors="surrogateescape")), kind.decode(errors="replace")))
    return mounts
