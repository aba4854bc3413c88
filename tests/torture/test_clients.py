"""Real LiveStore clients while the server restarts under them (`clients.py`)."""

import random
from pathlib import Path

import pytest

from tests.postgres.server import fresh_schema
from tests.torture.clients import real_clients


@pytest.mark.usefixtures("needs_node")
def test_real_clients_converge_by_themselves(tmp_path: Path, dice: random.Random) -> None:
    real_clients(tmp_path, 20, 3, dice, print)


@pytest.mark.usefixtures("needs_node")
def test_real_clients_of_two_servers_converge_by_themselves(tmp_path: Path, dice: random.Random) -> None:
    real_clients(tmp_path, 12, 2, dice, print, postgres=fresh_schema(str(tmp_path)))
