"""Backups in a bucket of a real S3-compatible server: written, read back, restored; what is said when that fails."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from livesync_trio.archive.places import Bucket
from livesync_trio.config import Config, Secret
from livesync_trio.errors import CommandError, Kind
from tests.archive.logs import Opened, plain_log, put
from tests.backups.bucket_server import ACCESS_KEY, SECRET_KEY, BucketServer, bucket_server
from tests.backups.test_beside_a_server import PATIENCE_S, metrics
from tests.cli.conftest import Livesync
from tests.torture.server import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    with bucket_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


def bucket(server: BucketServer, folder: str = "backups", *, secret: str = SECRET_KEY, key: str = ACCESS_KEY) -> Bucket:
    config = Config(backup_s3_endpoint=server.endpoint, backup_s3_access_key=key, backup_s3_secret_key=Secret(secret))
    return Bucket.of(config, f"s3://{folder}")


def test_a_file_comes_back_as_it_went_in_many_parts_too(server: BucketServer, tmp_path: Path) -> None:
    file, back = tmp_path / "file", tmp_path / "back"
    file.write_bytes(bytes(range(256)) * 80_000)  # 20 MB: three parts
    place = bucket(server, "backups/a folder/deep")
    place.put("livesync-20260301T000000Z.jsonl.gz", file, overwrite=False)
    place.fetch("livesync-20260301T000000Z.jsonl.gz", back)
    assert back.read_bytes() == file.read_bytes()
    assert [(one.name, one.size_bytes) for one in place.kept()] == [("livesync-20260301T000000Z.jsonl.gz", 20_480_000)]
    with pytest.raises(CommandError, match="exists") as caught:
        place.put("livesync-20260301T000000Z.jsonl.gz", file, overwrite=False)
    assert caught.value.kind is Kind.ALREADY_THERE
    place.remove("livesync-20260301T000000Z.jsonl.gz")
    assert place.kept() == []


def test_what_comes_back_changed_does_not_stay(
    server: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"whole")
    monkeypatch.setattr(Bucket, "_pieces", lambda *_: iter([b"whol"]))
    place = bucket(server, "backups/changed")
    with pytest.raises(CommandError, match="did not come back as it was written"):
        place.put("livesync-20260301T000000Z.jsonl.gz", file, overwrite=False)
    assert place.kept() == []


@pytest.mark.parametrize(
    ("folder", "key", "secret", "words"),
    [
        ("backups", ACCESS_KEY, "another secret", "the secret key is wrong: check LIVESYNC_BACKUP_S3_SECRET_KEY"),
        ("backups", "nobody", SECRET_KEY, "does not know the access key"),
        ("no-such-bucket", ACCESS_KEY, SECRET_KEY, "there is no such bucket: make it first"),
    ],
    ids=["secret", "key", "bucket"],
)
def test_what_is_wrong_is_told_in_words_without_a_key(
    server: BucketServer, tmp_path: Path, folder: str, key: str, secret: str, words: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"whatever")
    place = bucket(server, folder, secret=secret, key=key)
    for attempt in (place.kept, lambda: place.put("x", file, overwrite=False)):
        with pytest.raises(CommandError) as caught:
            attempt()
        told = str(caught.value)
        if words not in told:
            assert "the storage answers 403" in told  # the answer to HEAD has no body that says more
        assert key not in told
        assert secret not in told
        assert "Debug" not in told


def test_commands_write_list_verify_and_restore(server: BucketServer, livesync: Livesync, tmp_path: Path) -> None:
    with Opened(tmp_path / "a.db") as target:
        put(target, "notes", plain_log(3))
    settings = {**server.settings, "DATABASE_URL": "sqlite:///a.db"}
    names = [f"livesync-2026030{day}T000000Z.jsonl.gz" for day in (1, 2, 3)]
    for name in names:
        wrote = livesync("backup", f"s3://backups/kept/{name}", "--keep", "2", "--json", **settings)
        assert wrote.returncode == 0, wrote.stderr
        assert json.loads(wrote.stdout)["events"] == 3
    listed = livesync("backups", "s3://backups/kept", "--json", **settings)
    assert [json.loads(line)["name"] for line in listed.stdout.splitlines()] == names[:0:-1]
    assert livesync("verify", "--file", f"s3://backups/kept/{names[2]}", **settings).returncode == 0
    back = livesync(
        "restore", f"s3://backups/kept/{names[2]}", "--json", **(settings | {"DATABASE_URL": "sqlite:///b.db"})
    )
    assert json.loads(back.stdout)["outcome"] == "restored", back.stderr
    again = livesync("backup", f"s3://backups/kept/{names[2]}", **settings)
    assert again.returncode == 8
    assert SECRET_KEY not in again.stdout + again.stderr


def test_a_storage_that_is_not_there_is_told(livesync: Livesync) -> None:
    told = livesync(
        "backups", "s3://backups", LIVESYNC_BACKUP_S3_ENDPOINT="http://127.0.0.1:1",
        LIVESYNC_BACKUP_S3_ACCESS_KEY="k", LIVESYNC_BACKUP_S3_SECRET_KEY=SECRET_KEY,
    )  # fmt: skip
    assert told.returncode == 2
    assert told.stderr.endswith("the storage cannot be reached: check LIVESYNC_BACKUP_S3_ENDPOINT and the network.\n")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LIVESYNC_BACKUP_DIR", "s3://"),
        ("LIVESYNC_BACKUP_S3_ENDPOINT", "http://user:secret@host"),
        ("LIVESYNC_BACKUP_S3_ACCESS_KEY", "alone"),
    ],
    ids=["no-bucket", "user", "half-a-pair"],
)
def test_settings_that_cannot_work_are_refused(livesync: Livesync, variable: str, value: str) -> None:
    told = livesync("config", **{variable: value})
    assert told.returncode == 2
    assert variable in told.stderr


async def test_a_server_keeps_its_backups_in_the_bucket(server: BucketServer, tmp_path: Path) -> None:
    settings = {
        **server.settings,
        "LIVESYNC_BACKUP_DIR": "s3://backups/clock",
        "LIVESYNC_METRICS_TOKEN": "a metrics token",
    }
    folder = server.root / "backups" / "clock"
    process = ServerProcess(tmp_path, settings)
    await process.start()
    try:
        with trio.fail_after(PATIENCE_S):
            while "livesync_backup_size_bytes 0.0" in (told := await metrics(process.port)):  # noqa: ASYNC110
                await trio.sleep(0.1)
        assert "livesync_backup_failures_total 0.0" in told
        assert re.search(r"livesync_backup_last_success_timestamp_seconds [1-9]", told)
        (file,) = folder.iterdir()
    finally:
        await process.stop()
    again = ServerProcess(tmp_path, settings)  # it sees that there is one, and makes none
    await again.start()
    try:
        with trio.fail_after(PATIENCE_S):
            while "livesync_backup_size_bytes 0.0" in await metrics(again.port):  # noqa: ASYNC110
                await trio.sleep(0.1)
    finally:
        await again.stop()
    assert list(folder.iterdir()) == [file]
