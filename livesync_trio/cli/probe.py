"""A probe: one event through a scratch store, over the wire, as a client would send it.

Owns that exchange, for `livesync doctor` and `livesync bench`. What is pushed stays in the scratch store until that is
deleted.
"""

import json
import time
from pathlib import Path
from typing import Any, Final

import attrs

from livesync_trio.client import BlockingBackend, Event
from livesync_trio.config import THIS_MACHINE, Config
from livesync_trio.errors import CommandError, Kind
from livesync_trio.model import SCRATCH_STORES, StoreId

_NAME: Final = "livesyncProbe"


def sync_url(config: Config, given: str | None) -> str:
    """Where clients connect."""
    scheme = "http" if config.tls_cert is None else "https"
    host = THIS_MACHINE.get(config.host, config.host)
    return given or f"{scheme}://{f'[{host}]' if ':' in host and host[0] != '[' else host}:{config.port}"


def payload(config: Config, file: Path | None) -> Any:
    """What a client sends to be let in. Raises CommandError."""
    if file is not None:
        return read_payload(file)
    return None if config.auth_token is None else {"authToken": config.auth_token.reveal()}


def read_payload(file: Path) -> Any:
    """What `--payload-file` holds. Raises CommandError."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CommandError(Kind.BAD_CONFIG, f"--payload-file {file} cannot be read: {error}.") from error


@attrs.frozen
class Synced:
    """What a probe has seen.

    Attributes:
        head: number of the event that was pushed and came back.
        push_s: from the push until the server said that it is durable.
        pull_s: from the request until the event was back.
    """

    head: int
    push_s: float
    pull_s: float


def sync_probe(client: BlockingBackend) -> Synced:
    """Push one event to a scratch store, and pull it.

    Raises:
        CommandError: the server gives back something else.
        SyncError: it refuses, or does not answer.
    """
    _, head = history(client)
    begin_s = time.monotonic()
    client.push([probe_event(head + 1, head)])
    pushed_s = time.monotonic()
    events, seen = history(client)
    pulled_s = time.monotonic()
    if seen != head + 1 or events[-1].name != _NAME:
        raise CommandError(Kind.CHECKS_FAILED, f"The probe was acknowledged as e{head + 1}, and e{seen} came back.")
    return Synced(seen, pushed_s - begin_s, pulled_s - pushed_s)


def history(client: BlockingBackend) -> tuple[list[Event], int]:
    """Events of a scratch store, and its head."""
    events = [event for page in client.pull() for event in page.events]
    return events, events[-1].seq_num if events else 0


def probe_event(seq_num: int, parent_seq_num: int) -> Event:
    """An event that no application has."""
    return Event(seq_num, parent_seq_num, _NAME, b'{"at":%r}' % time.time(), "livesync", "probe")


def scratch(name: str, *parts: object) -> StoreId:
    """The name of a scratch store."""
    return StoreId("-".join([SCRATCH_STORES, name, *map(str, parts)]))
