"""An S3-compatible server for tests: `rclone serve s3`, which checks signatures and keeps objects as files."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

ACCESS_KEY = "AKTESTKEY"
SECRET_KEY = "a-secret-key-that-must-not-be-shown"
PATIENCE_S = 60


@attrs.frozen
class BucketServer:
    """A server that runs.

    Attributes:
        endpoint: its URL.
        root: each folder in it is a bucket.
    """

    endpoint: str
    root: Path

    @property
    def settings(self) -> dict[str, str]:
        """The variables of livesync that lead to it."""
        return {
            "LIVESYNC_BACKUP_S3_ENDPOINT": self.endpoint,
            "LIVESYNC_BACKUP_S3_ACCESS_KEY": ACCESS_KEY,
            "LIVESYNC_BACKUP_S3_SECRET_KEY": SECRET_KEY,
        }


@contextmanager
def bucket_server(root: Path) -> Iterator[BucketServer]:
    """Run one at a free port, which its own log names."""
    (root / "backups").mkdir(parents=True)
    server = subprocess.Popen(
        [
            str(Path(sys.executable).parent / "rclone"),
            "serve",
            "s3",
            "--config",
            "",
            "--addr",
            "127.0.0.1:0",
            "--auth-key",
            f"{ACCESS_KEY},{SECRET_KEY}",
            str(root),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        line = next(line for line in server.stderr if "http://" in line)
        yield BucketServer("http://" + line.partition("http://")[2].partition("/")[0], root)
    finally:
        server.terminate()
        server.wait(PATIENCE_S)
        assert server.stderr is not None
        server.stderr.close()
