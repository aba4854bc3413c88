"""Files of buckets for commands that work on files: fetched before they are read, sent when they are whole."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from livesync_trio.archive.bucket import Bucket, is_bucket
from livesync_trio.archive.places import Folder, Place
from livesync_trio.cli import printing
from livesync_trio.config import Config, load


@contextmanager
def at_hand(file: Path | str, flags: Mapping[str, Any]) -> Iterator[Path]:
    """The path under which a file can be read; one of a bucket is copied into `$TMPDIR` for as long.

    Raises:
        CommandError: it cannot be fetched.
    """
    if not is_bucket(str(file)):
        yield Path(file)
        return
    bucket, name = Bucket.with_file(load(flags, os.environ), str(file))
    with TemporaryDirectory(prefix="livesync-") as folder:
        copy = Path(folder) / name
        with printing.progress(f"fetching {file}"):
            bucket.fetch(name, copy)
        yield copy


@contextmanager
def on_the_way(file: str, config: Config, *, overwrite: bool) -> Iterator[str]:
    """The path at which a file is to be made; one of a bucket is made in `$TMPDIR`, and sent when that went well.

    Raises:
        CommandError: it cannot be sent.
    """
    if not is_bucket(file):
        yield file
        return
    bucket, name = Bucket.with_file(config, file)
    with TemporaryDirectory(prefix="livesync-") as folder:
        made = Path(folder) / name
        yield str(made)
        with printing.progress(f"sending to {file}"):
            bucket.put(name, made, overwrite=overwrite)


def place_of(name: str, config: Config) -> Place:
    """The folder or bucket that a text names. Raises CommandError when buckets cannot be used."""
    return Bucket.of(config, name) if is_bucket(name) else Folder(Path(name))
