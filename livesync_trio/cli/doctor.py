"""`livesync doctor`: look at everything a server needs, and sync an event as a client would."""

import os
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import click

from livesync_trio.archive.entries import Broken
from livesync_trio.archive.sources.wire import connected
from livesync_trio.cli import doctor_checks as checks
from livesync_trio.cli import printing
from livesync_trio.cli.doctor_checks import Check, State
from livesync_trio.cli.options import configuration_options, json_option, sync_options, url_option
from livesync_trio.cli.printable import Colour, tell
from livesync_trio.cli.probe import payload, scratch, sync_probe, sync_url
from livesync_trio.cli.reading.control_plane import ControlPlane
from livesync_trio.client import place_of
from livesync_trio.config import Config, is_loopback, load
from livesync_trio.errors import CommandError, Kind
from livesync_trio.wire.reading import plain

_COLUMN: Final = 14
_INDENT: Final = 2 * _COLUMN
_LEAST_COLUMNS: Final = 20
_SHOWN: Final[Mapping[State, tuple[str, Colour]]] = {
    "ok": ("ok", "green"),
    "careful": ("warning", "yellow"),
    "wrong": ("wrong", "red"),
    "not looked at": ("skipped", "white"),
}
"""How a person is told of each state."""


@click.command()
@url_option("Control plane of the running server.")
@sync_options
@json_option
@configuration_options("host", "port", "database_url", "admin_secret")
def doctor(*, url: str | None, sync_url: str | None, payload_file: Path | None, as_json: bool, **flags: Any) -> None:
    """Check configuration, database, permissions, clock, limits and proxy, and sync a probe through a scratch store.

    The exit code is 10 when something is wrong. With --url the scratch store is deleted again. Takes every option of
    `livesync serve`.
    """
    config = load(flags, os.environ)
    found = []
    for check in _all(config, url, sync_url, payload_file):
        found.append(check)
        if as_json:
            printing.line({"about": check.about, "state": check.state, "text": check.text})
        else:
            _print(check)
    wrong = [check for check in found if check.state == "wrong"]
    if wrong:
        raise CommandError(Kind.CHECKS_FAILED, f"{len(wrong)} of {len(found)} checks failed.")


def _all(config: Config, url: str | None, given_url: str | None, payload_file: Path | None) -> Iterator[Check]:
    yield Check("configuration", "ok", "every setting is understood")  # else `load` has said why
    yield from (Check("environment", "careful", remark) for remark in config.remarks)
    yield from checks.configuration(config)
    yield from checks.database(config)
    yield checks.open_files()
    plane = None if url is None else ControlPlane(url, config.admin_secret)
    yield from _probed(
        config, sync_url(config, given_url), payload(config, payload_file), plane, asked=given_url or url
    )


def _probed(config: Config, where: str, who: Any, plane: ControlPlane | None, *, asked: str | None) -> Iterator[Check]:
    """Sync an event through a scratch store; on the way, look how the server sees us."""
    store = scratch("doctor")
    try:
        with connected(where, store, who) as client:
            synced = sync_probe(client)
            times = f"durable after {synced.push_s * 1000:.0f} ms, pulled in {synced.pull_s * 1000:.0f} ms"
            yield Check("probe", "ok", f"e{synced.head} of {store!r} through {place_of(where)}: {times}")
            with nullcontext() if plane is None else plane.understood():
                proxy = proxy_check(config, where, plane, store)
            yield proxy
    except (CommandError, Broken) as error:
        if asked is None:
            yield Check("probe", "not looked at", f"no server answers at {place_of(where)}: name one by --sync-url")
        else:
            yield Check("probe", "wrong", str(error))
        return
    if plane is not None:
        with suppress(CommandError):
            plane.post("/store/delete", {"storeId": store, "confirm": store})


def _print(check: Check) -> None:
    """One check in a line; at a terminal folded at spaces, beside its name."""
    text = check.text
    if printing.at_terminal():
        width = max(_LEAST_COLUMNS, shutil.get_terminal_size().columns - _INDENT)
        text = f"\n{' ' * _INDENT}".join(textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False))
    word, colour = _SHOWN[check.state]
    tell(f"{check.about:<{_COLUMN}}{text}", label=word.ljust(_COLUMN), colour=colour)


class Connections(Protocol):
    """What is asked of the control plane while the probe is connected."""

    def all(self, path: str, members: str, **query: str | int | None) -> Iterator[bytes]:
        """Every entry of a list."""


def proxy_check(config: Config, where: str, plane: Connections | None, store: str) -> Check:
    """Whether the server knows for whom a proxy asks: it should not see the proxy's own address.

    Args:
        config: says which proxies are trusted.
        where: URL through which the probe is connected.
        plane: the control plane; None: nobody can be asked.
        store: the probe's store.
    """
    if plane is None:
        return Check("proxy", "not looked at", "with --url the server is asked from where it saw the probe come")
    seen = [str(plain(text)["address"]) for text in plane.all("/connections", "connections", storeId=store)]
    host = urlsplit(where).hostname or ""
    address = seen[-1] if seen else "nowhere"
    if is_loopback(host) or not is_loopback(address.rpartition(":")[0].strip("[]")):
        return Check("proxy", "ok", f"the server saw the probe come from {address}")
    trusted = "they do not fit what it sends" if config.trusted_proxies else "none are set"
    return Check(
        "proxy",
        "careful",
        f"the server saw the probe come from {address}, its proxy: LIVESYNC_TRUSTED_PROXIES, {trusted}",
    )
