"""`livesync webhooks`, as `docs/webhooks.md` shows it, against a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import trio

from tests.delivery.receiver import SECRET, Receiver, Reply, in_turn
from tests.delivery.test_real_servers import Server, all_arrive
from tests.docs.pages import blocks, commands
from tests.torture.server import ADMIN_SECRET

PAGE = "docs/webhooks.md"


async def run(server: Server, text: str, code: int = 0) -> str:
    """What a command prints."""
    environment = {
        **os.environ,
        "LIVESYNC_URL": f"http://127.0.0.1:{server.control_port}",
        "ADMIN_SECRET": ADMIN_SECRET,
    }
    arguments = [sys.executable, "-m", "livesync_trio", *text.split()[1:]]
    done = await trio.run_process(
        arguments,
        env=environment,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        cwd=str(Path(server.log).parent),
    )
    assert done.returncode == code, (done.stdout + done.stderr).decode()
    return (done.stdout + done.stderr).decode()


def test_the_commands_shown_work(tmp_path: Path) -> None:
    trio.run(_shown, tmp_path)


async def _shown(tmp_path: Path) -> None:
    shown = [
        command.text
        for block in blocks(PAGE)
        for command in commands(block)
        if command.text.startswith("livesync webhooks")
    ]
    assert len(shown) == 4
    async with trio.open_nursery() as nursery:
        receiver = Receiver(nursery)
        port = await receiver.listen()
        server = Server(tmp_path, port)
        config = tmp_path / "livesync.toml"
        config.write_text(config.read_text().replace('"hook"', '"search"'))
        await server.start()
        await server.push("team-a", 45)
        await all_arrive(receiver, {"team-a": 45})
        printed = [await run(server, text) for text in shown]
        assert re.search(r"search +http://127\.0\.0\.1:\d+/ +delivering +9 ", printed[0]), printed[0]
        assert printed[1].strip() == "No store was given up."
        assert printed[2].strip() == "search: it answered 200"
        assert "from event e41 on" in printed[3]
        with trio.fail_after(60):
            while receiver.numbers("team-a")[45:] != [42, 43, 44, 45]:  # noqa: ASYNC110 - another process decides
                await trio.sleep(0.02)
        assert '"id": "search"' in await run(server, "livesync webhooks list --json")
        receiver.answer = in_turn([Reply(500)])
        assert "did not take the message" in await run(server, "livesync webhooks test search", code=10)
        assert "There is no webhook 'other'" in await run(server, "livesync webhooks test other", code=9)
        assert SECRET not in "".join(printed)
        await server.stop()
        nursery.cancel_scope.cancel()


def test_a_command_without_a_server_says_what_it_needs() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LIVESYNC_")}
    done = subprocess.run(
        [sys.executable, "-m", "livesync_trio", "webhooks", "list"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--url" in done.stderr
