"""Commands, as tests/cli runs them."""

from tests.cli.conftest import livesync

__all__ = ["livesync"]
