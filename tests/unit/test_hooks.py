"""Hooks: how they are found, what they get, and how they are kept from doing harm. No sockets here."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from livesync_trio import hooks
from livesync_trio.connection.client_hooks import hook_event
from livesync_trio.errors import Kind, Refusal, StartupError
from livesync_trio.hooks import FAILED, HookContext, HookRunner, Hooks, Refused, load_hooks
from livesync_trio.telemetry import Counters, configure_logging, get_logger

CONTEXT = HookContext("a", None, {}, "127.0.0.1:1")
LIMIT_S = 5.0


def runner(limit_s: float = LIMIT_S) -> HookRunner:
    return HookRunner(Hooks(), limit_s)


# --- finding ---------------------------------------------------------------------------------------------------------


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_hooks_are_found_in_a_file(tmp_path: Path) -> None:
    spec = write(
        tmp_path / "my_hooks.py", "def on_push(batch, context): ...\nasync def on_pull(c, x): ...\nother = 1\n"
    )
    found = load_hooks(spec)
    assert found.on_push is not None
    assert found.on_pull is not None
    assert found.validate_payload is None
    assert found.on_push_res is None


def test_hooks_are_found_in_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "hooks_of_an_app.py", "class Hook:\n    def __call__(self, *a): ...\non_push_res = Hook()\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_hooks("hooks_of_an_app").on_push_res is not None


def test_a_file_may_define_what_is_resolved_by_its_module_name(tmp_path: Path) -> None:
    text = (
        "from __future__ import annotations\nimport dataclasses\n"
        "@dataclasses.dataclass\nclass A:\n    x: int = 1\ndef on_push(b, c): return A()\n"
    )
    assert load_hooks(write(tmp_path / "dataclass_hooks.py", text)).on_push is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "define none of: "),
        ("on_pushed = print", "on_push_res"),
        ("on_push = 7", "on_push is not a function"),
        ("on_pull = None", "on_pull is not a function"),
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("def on_push(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemError('secret')", "SystemError"),
    ],
)
def test_a_file_that_cannot_be_used_ends_the_start_with_a_reason(tmp_path: Path, text: str, words: str) -> None:
    spec = write(tmp_path / "bad_hooks.py", text)
    with pytest.raises(StartupError) as caught:
        load_hooks(spec)
    assert caught.value.kind is Kind.BAD_CONFIG
    assert words in str(caught.value)
    assert spec in str(caught.value)


@pytest.mark.parametrize(
    "spec", ["/nowhere/hooks.py", "no_such_module_at_all", "no.such.module", ".relative", "a-b", ""]
)
def test_what_does_not_exist_ends_the_start_with_a_reason(spec: str) -> None:
    with pytest.raises(StartupError) as caught:
        load_hooks(spec)
    assert caught.value.kind is Kind.BAD_CONFIG
    assert repr(spec) in str(caught.value)


# --- what they get ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args", ['{"b":[1.0,1e21],"a":null}', '"\\ud83d"', "123456789012345678901234567890", "1e999", '"\\u0000"', "null"]
)
def test_an_event_is_decoded_for_a_hook(args: str) -> None:
    text = f'{{"name":"\\ud83d","args":{args},"seqNum":2,"parentSeqNum":1,"clientId":"c","sessionId":"s"}}'
    event = hook_event(text.encode())
    assert (event.name, event.seq_num, event.parent_seq_num) == ("\ud83d", 2, 1)
    assert (event.client_id, event.session_id) == ("c", "s")
    assert repr(event.args) == repr(json.loads(args))


# --- running ---------------------------------------------------------------------------------------------------------

calls: list[Any] = []


def plain(argument: Any, context: HookContext) -> None:
    calls.append((argument, context, threading.current_thread() is threading.main_thread()))


async def asynchronous(argument: Any, context: HookContext) -> None:
    await trio.lowlevel.checkpoint()
    plain(argument, context)


class PlainObject:
    def __call__(self, argument: Any, context: HookContext) -> None:
        plain(argument, context)


class AsyncObject:
    async def __call__(self, argument: Any, context: HookContext) -> None:
        await asynchronous(argument, context)


async def with_more(argument: Any, context: HookContext, more: int) -> None:
    await asynchronous(argument, context)


@functools.wraps(asynchronous)
async def wrapped(*args: Any) -> None:
    await asynchronous(*args)


KINDS: dict[str, Callable[..., Any]] = {
    "a plain function": plain,
    "an async function": asynchronous,
    "an object": PlainObject(),
    "an async object": AsyncObject(),
    "a partial": functools.partial(with_more, more=1),
    "a lambda around an async function": lambda *both: asynchronous(*both),  # noqa: PLW0108 -- not the function itself
    "a decorated async function": wrapped,
}


@pytest.mark.parametrize(("name", "hook"), KINDS.items(), ids=KINDS)
async def test_every_kind_of_callable_is_called_once_with_argument_and_context(name: str, hook: Any) -> None:
    calls.clear()
    assert await runner().ask(hook, "argument", CONTEXT) is None
    ((argument, context, in_main_thread),) = calls
    assert (argument, context) == ("argument", CONTEXT)
    assert in_main_thread == ("async" in name or "partial" in name)


async def test_a_missing_hook_agrees() -> None:
    assert await runner().ask(None, "argument", CONTEXT) is None
    await runner().tell(None, "argument", CONTEXT)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no"), "no"),
        (ValueError(), "ValueError"),
        (ValueError(""), "ValueError"),
        (PermissionError("not you"), "not you"),
        (Refused("not now"), "not now"),
        (Refused(), "Refused"),
        (ExceptionGroup("a nursery's", [ValueError("a")]), "a"),
        (KeyError("x"), None),
        (OSError(2, "x"), None),
        (AssertionError("x"), None),
        (ExceptionGroup("both", [ValueError("a"), ValueError("b")]), None),
        (trio.TooSlowError(), None),
    ],
)
@pytest.mark.parametrize("in_thread", [True, False])
async def test_some_exceptions_refuse_with_their_message_and_others_are_faults(
    error: Exception, message: str | None, in_thread: bool
) -> None:
    def raising(argument: Any, context: HookContext) -> None:
        raise error

    async def raising_async(argument: Any, context: HookContext) -> None:
        raise error

    counters = Counters()
    asked = HookRunner(Hooks(), 5.0, counters=counters)
    with structlog.testing.capture_logs() as logs:
        refusal = await asked.ask(raising if in_thread else raising_async, None, CONTEXT)
    assert refusal == (FAILED if message is None else Refusal(Kind.HOOK_REFUSED, message))
    assert counters.hooks_failed == (message is None)
    assert [(line["event"], line["log_level"]) for line in logs] == (
        [("hook failed", "error")] if message is None else []
    )


async def test_an_async_hook_that_hangs_is_cut_off_at_its_limit(autojump_clock: trio.testing.MockClock) -> None:
    ended: list[float] = []

    async def hang(argument: Any, context: HookContext) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    began = trio.current_time()
    refusal = await runner().ask(hang, None, CONTEXT)
    assert refusal == Refusal(Kind.HOOK_TIMEOUT, "hang did not answer within 5 s.")
    assert ended == [trio.current_time()] == [began + LIMIT_S]


async def test_a_hook_that_answers_just_in_time_agrees(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(argument: Any, context: HookContext) -> None:
        await trio.sleep(LIMIT_S - 0.001)

    assert await runner().ask(slow, None, CONTEXT) is None


async def test_a_plain_hook_that_hangs_is_left_behind_and_the_next_one_runs() -> None:
    release = threading.Event()

    def hang(argument: Any, context: HookContext) -> None:
        assert release.wait(30)

    try:
        asked = runner(0.02)
        for _ in range(50):  # more than the threads Trio would lend by itself
            refusal = await asked.ask(hang, None, CONTEXT)
            assert refusal is not None
            assert refusal.kind is Kind.HOOK_TIMEOUT
        assert await runner(5).ask(plain, None, CONTEXT) is None
        asked_again = await asked.ask(asynchronous, None, CONTEXT)
        assert asked_again is None
    finally:
        release.set()


async def test_cancelling_the_caller_ends_the_hook_and_is_no_refusal(autojump_clock: trio.testing.MockClock) -> None:
    async def hang(argument: Any, context: HookContext) -> None:
        await trio.sleep_forever()

    answers: list[object] = []
    with trio.move_on_after(1) as scope:
        answers.append(await runner().ask(hang, None, CONTEXT))
    assert scope.cancelled_caught
    assert answers == []


async def test_hooks_run_side_by_side(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(argument: Any, context: HookContext) -> None:
        await trio.sleep(3)

    asked = runner()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(asked.ask, slow, None, CONTEXT)
    assert trio.current_time() == began + 3


async def test_what_an_observer_raises_is_logged_and_goes_no_further(autojump_clock: trio.testing.MockClock) -> None:
    async def raising(argument: Any, context: HookContext) -> None:
        raise ValueError("no")

    async def hang(argument: Any, context: HookContext) -> None:
        await trio.sleep_forever()

    with structlog.testing.capture_logs() as logs:
        await runner().tell(raising, None, CONTEXT)
        await runner().tell(hang, None, CONTEXT)
    failed = [line for line in logs if line["event"] == "observing hook failed"]
    assert [line["hook"] for line in failed] == ["raising", "hang"]
    assert {line["log_level"] for line in failed} == {"warning"}
    assert {line["store"] for line in failed} == {"a"}


@pytest.mark.parametrize("style", ["json", "console"])
async def test_the_log_of_a_fault_has_the_traceback_and_not_what_the_hook_was_given(
    style: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Payloads hold tokens. A traceback with the values of local variables would put them into the log."""

    def failing(payload: Any, context: HookContext) -> None:
        raise LookupError("not today")

    token = {"authToken": "canary-7c1f"}
    context = HookContext("a", token, {"authorization": "canary-7c1f"}, "127.0.0.1:1")
    configure_logging("info", style)
    monkeypatch.setattr(hooks, "_log", get_logger("hooks"))  # one that does not remember an older configuration
    try:
        await runner().ask(failing, token, context)
    finally:
        structlog.reset_defaults()
    logged = capsys.readouterr().err
    assert "not today" in logged
    assert "failing" in logged
    assert "canary" not in logged
