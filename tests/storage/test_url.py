from pathlib import Path

import pytest

from livesync_trio.errors import Kind, StartupError
from livesync_trio.storage.memory import MemoryEngine
from livesync_trio.storage.postgresql.engine import PostgresEngine
from livesync_trio.storage.url import engine_from_url


def test_a_relative_path_is_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = engine_from_url("sqlite:///live.db")
    engine.open()
    engine.close()
    assert (tmp_path / "live.db").exists()
    assert engine.describe().startswith(str(tmp_path / "live.db"))


def test_an_absolute_path_has_four_slashes(tmp_path: Path) -> None:
    engine = engine_from_url(f"sqlite:///{tmp_path}/a b%20c ü.db")
    engine.open()
    engine.close()
    assert (tmp_path / "a b c ü.db").exists()


def test_memory_is_for_tests() -> None:
    assert isinstance(engine_from_url("memory:"), MemoryEngine)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_postgresql_url_without_its_secrets(scheme: str) -> None:
    engine = engine_from_url(f"{scheme}://u:canary@one,two:5433/d?sslmode=require&application_name=x")
    assert isinstance(engine, PostgresEngine)
    assert engine.describe() == "postgresql://u@one,two:5433/d"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://u:canary@h/d?sslmood=require", "no parameter sslmood"),
        ("postgres://u:can/ary@h:canary/d", "%xx"),
        ("sqlite://live.db", "three slashes"),
        ("mysql://u:canary@h/d", "not a sqlite URL"),
        ("", "not a sqlite URL"),
    ],
)
def test_anything_else_is_refused_without_repeating_it(url: str, reason: str) -> None:
    with pytest.raises(StartupError, match=f"DATABASE_URL cannot be used: .*{reason}") as refused:
        engine_from_url(url)
    assert refused.value.kind is Kind.BAD_CONFIG
    assert "canary" not in str(refused.value)
