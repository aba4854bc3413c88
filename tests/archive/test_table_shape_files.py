"""The file that `export --format sqlite` makes: private, and a file."""

import os
from pathlib import Path

import pytest

from tests.archive.conftest import Run
from tests.archive.logs import Opened, plain_log, put


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/live.db"


def test_it_is_private_whatever_the_umask(run: Run, tmp_path: Path, database: str) -> None:
    with Opened(tmp_path / "live.db") as target:
        put(target, "notes", plain_log(3))
    old = os.umask(0)
    try:
        assert run("export", str(tmp_path / "t.sqlite"), "--format", "sqlite", "--database-url", database)[0] == 0
    finally:
        os.umask(old)
    assert (tmp_path / "t.sqlite").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["-", "tables.sqlite.gz"])
def test_what_cannot_be_an_sqlite_file_is_refused(
    run: Run, tmp_path: Path, database: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Opened(tmp_path / "live.db") as target:
        put(target, "notes", plain_log(3))
    monkeypatch.chdir(tmp_path)
    code, _, error = run("export", name, "--format", "sqlite", "--database-url", database)
    assert code == 2
    assert "writes a plain file" in error
    assert {path.name for path in tmp_path.iterdir()} == {"live.db", "live.db.lock"}
