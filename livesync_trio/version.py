"""The version, in one place: the package's metadata is read from here when it is built."""

from typing import Final

VERSION: Final = "0.1.0.dev0"
"""Shown by `livesync --version`, `GET /` and `/health`."""
