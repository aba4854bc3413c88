"""Nobody waits for the log, and nothing fails because of it."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
import trio

from livesync_trio.audit import Audit
from livesync_trio.errors import Kind
from livesync_trio.telemetry import output as module
from livesync_trio.telemetry.logs import configure_logging, get_logger
from livesync_trio.telemetry.output import LineOutput, LineStream

LIMIT_S = 10.0


def notice(lost: int, reason: str) -> bytes:
    return f"lost {lost}: {reason}\n".encode()


class Pipe:
    """A pipe that takes one page, and an output into it."""

    def __init__(self, max_bytes: int = 1000) -> None:
        self.reading, writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.output = LineOutput(writing, notice, max_bytes=max_bytes)

    def fill(self) -> int:
        """Put lines until there is room nowhere; gives how many of them were taken."""
        taken = 0
        while self.output.put(b"x" * 99 + b"\n") or self.output.flush(0.05):
            taken += 1
            assert taken < 10_000
        return taken

    def read(self) -> bytes:
        try:
            return os.read(self.reading, 1 << 20)
        except BlockingIOError:
            return b""

    def read_until(self, text: bytes) -> bytes:
        """Read until `text` has come."""
        found, ended = b"", threading.Event()
        for _ in range(int(LIMIT_S / 0.01)):
            found += self.read()
            if text in found:
                return found
            ended.wait(0.01)
        raise AssertionError(f"{text!r} did not come: {found[-200:]!r}")


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_what_is_lost_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTPUT_RETRY_S", 0.01)
    pipe = Pipe()
    pipe.fill()
    for _ in range(5):
        assert not pipe.output.put(b"y" * 2000)
    assert not pipe.output.flush(0.05)
    lost = pipe.output.lost
    assert lost >= 5
    told = 0
    while told < lost:  # in one line or more, for it may have been told of some of them before
        told += sum(map(int, re.findall(rb"lost (\d+): the reader is too slow\n", pipe.read_until(b" slow\n"))))
    assert told == lost
    assert not pipe.output.failing
    pipe.output.put(b"afterwards\n")
    assert pipe.read_until(b"afterwards\n").endswith(b"afterwards\n")
    pipe.output.close(LIMIT_S)


def test_a_reader_that_has_gone_is_counted_and_nothing_else() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    said: list[str] = []
    output = LineOutput(writing, notice, troubled=said.append)
    for _ in range(3):
        assert output.put(b"x\n")
    assert output.flush(LIMIT_S)
    assert (output.lost, output.failing, said) == (3, True, ["Broken pipe"])
    output.close(LIMIT_S)


def test_a_line_that_was_torn_is_ended_before_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "OUTPUT_RETRY_S", 0.01)
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    room = [3, 0]

    def write(to: int, data: bytes) -> int:
        if room:
            allowed = room.pop(0)
            if not allowed:
                raise OSError(28, "No space left on device")
            return real(to, bytes(data)[:allowed])
        return real(to, data)

    real: Callable[[int, bytes], int] = os.write
    monkeypatch.setattr(os, "write", write)
    output = LineOutput(descriptor, notice)
    output.put(b"abcdef\n")
    output.put(b"second\n")
    output.close(LIMIT_S)
    assert path.read_bytes() == b"abc\nlost 1: No space left on device\nsecond\n"


def test_what_prints_goes_the_same_way() -> None:
    pipe = Pipe()
    text = LineStream(pipe.output, 2).as_text()
    print("one", "two", file=text)
    print("half a pair: \ud800", file=text)
    assert pipe.output.flush(LIMIT_S)
    assert pipe.read() == b"one two\nhalf a pair: \\ud800\n"
    pipe.output.close(LIMIT_S)


class Unspeakable:
    """Its text cannot be had."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_line_that_cannot_be_made_raises_nothing(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    log = get_logger("room of this test")
    try:
        configure_logging("info", style)  # type: ignore[arg-type]
        log.error("strange", thing=Unspeakable())
    finally:
        structlog.configure(**before)
        log.__dict__.pop("bind", None)
    assert "log line cannot be made" in capsys.readouterr().err


# --- the audit log ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("required", [False, True])
async def test_an_audit_log_that_cannot_be_written_cuts_nobody(required: bool) -> None:
    with structlog.testing.capture_logs() as logs:
        audit = Audit("/dev/full", required=required)
        assert audit.refusal is None
        audit.record("connect", store="s", address="127.0.0.1:1")
        with trio.fail_after(LIMIT_S):
            while not audit.lost:  # noqa: ASYNC110 - another thread counts it
                await trio.sleep(0.01)
        refused = audit.refusal
        assert (None if refused is None else refused.kind) == (Kind.AUDIT_UNAVAILABLE if required else None)
        audit.prepare("/dev/full", required=required)()
        assert audit.lost == 1
        audit.close()
        audit.record("connect", store="s", address="127.0.0.1:1")
    lines = [line for line in logs if line["event"] == "audit log cannot be written"]
    assert [line["reason"] for line in lines] == ["No space left on device"]


def test_only_its_owner_may_read_the_audit_log(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        audit = Audit(str(tmp_path / "audit.jsonl"))
    finally:
        os.umask(before)
    audit.record("connect", store="s", address="127.0.0.1:1", user="\ud800")
    audit.close()
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600
    assert json.loads((tmp_path / "audit.jsonl").read_text())["act"] == "connect"
