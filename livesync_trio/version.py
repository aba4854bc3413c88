"""The version, in one place: the package's metadata is read from here when it is built."""

from typing import Final

VERSION: Final = "0.2.0"
"""Shown by `livesync --version`, `GET /` and `/health`."""
