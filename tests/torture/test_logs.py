"""Nothing that happens to the log stops the server, or costs an acknowledged push."""

import random
from pathlib import Path

import pytest
import trio

from tests.torture import logs

pytestmark = pytest.mark.usefixtures("needs_gcc")


def test_the_server_outlives_its_log(tmp_path: Path, dice: random.Random) -> None:
    trio.run(logs.logs, tmp_path, dice, print)
