"""How cost grows: measures rows of figures over sizes, keeps them as JSON, has them drawn.

`scripts/bench --curves [--only log_length,…]` measures all or some, writes `docs/performance/curves.json` and draws;
with `--postgres` those that depend on the database, on PostgreSQL. `scripts/bench --draw` only draws again.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from scripts.benchmark import ROOT, load, postgres, report
from scripts.benchmark.servers import Running, ours
from scripts.benchmark.session import machine
from scripts.benchmark.sockets import BenchError

DIRECTORY: Final = ROOT / "docs" / "performance"
JSON: Final = DIRECTORY / "curves.json"

LOG_EVENTS: Final = 2_000_000
STORES: Final = (10, 100, 1_000, 10_000, 100_000)
SUBSCRIBERS: Final = (1, 3, 10, 30, 100, 300, 1_000, 2_000)
CONNECTIONS: Final = (100, 1_000, 2_500, 5_000, 7_500, 10_000)
PULL_EVENTS: Final = 500_000
ACTORS: Final = (1_000, 10_000, 100_000)
"""The sizes of issue 5."""

POSTGRES: Final = "postgres"
"""Where in the JSON the curves on PostgreSQL stand."""

PAUSES_SECONDS: Final = 15
QUICK_SHARE: Final = 0.02
"""Of the sizes, to see whether it all works."""

Say = Callable[[str], None]
Sizes = Sequence[int]
Arguments = Sequence[str]
"""More of the command line of a server; names its database, if that is not an SQLite file of its own."""


def measure(say: Say, *, quick: bool, only: list[str] | None, on_postgres: bool) -> None:
    """Measure the curves (all, or some) and draw what there is."""
    share = QUICK_SHARE if quick else 1.0

    def sizes(full: Sizes) -> list[int]:
        return [size for size in full if size <= share * max(full)] or [full[0]]

    def of_database(new: Callable[[], Arguments]) -> dict[str, Callable[[], Any]]:
        return {
            "log_length": lambda: _ask("log_length", {"longest": int(LOG_EVENTS * share)}, new())["rows"],
            "stores_known": lambda: [_known(size, say, new()) for size in sizes(STORES)],
            "long_pull": lambda: _ask("long_pull", {"events": int(PULL_EVENTS * share)}, new()),
        }

    content: dict[str, Any] = json.loads(JSON.read_text()) if JSON.exists() else {}

    def make(makers: dict[str, Callable[[], Any]], into: dict[str, Any]) -> None:
        unknown = set(only or ()) - set(makers)
        if unknown:
            raise BenchError(f"there is no curve {', '.join(sorted(unknown))}; there are {', '.join(makers)}")
        for name in only or makers:
            say(name)
            into[name] = makers[name]()
            if not quick:
                DIRECTORY.mkdir(parents=True, exist_ok=True)
                report.write_json(JSON, content)

    content["machine"] = machine()
    if on_postgres:
        with postgres.database() as url:
            new = partial(_on_postgres, url)
            make(of_database(new), content.setdefault(POSTGRES, {}))
    else:
        of_server: dict[str, Callable[[], Any]] = {
            "subscribers": lambda: [_ask("subscribers", {"followers": size}) for size in sizes(SUBSCRIBERS)],
            "connections": lambda: [_ask("connections", {"number": size}) for size in sizes(CONNECTIONS)],
            "pauses": lambda: [_pauses(size, say) for size in sizes(ACTORS)],
        }
        make(of_database(tuple) | of_server, content)
    if quick:
        say(json.dumps(content, indent=1))
    else:
        draw()


def _on_postgres(url: str) -> Arguments:
    return "--database-url", postgres.fresh_database(url)


def draw() -> None:
    """Draw the pictures from the JSON."""
    from scripts.benchmark import pictures  # noqa: PLC0415 - the library that draws is installed by scripts/bench only

    content = json.loads(JSON.read_text())
    pictures.draw(content, DIRECTORY)
    pictures.draw(content.get(POSTGRES, {}), DIRECTORY, where="PostgreSQL")


def _ask(curve: str, sizes: dict[str, int], arguments: Arguments = ()) -> dict[str, Any]:
    """One row, from a server started for it."""
    with ours(arguments=arguments).running() as running:
        return _ask_of(running, curve, sizes)


def _ask_of(running: Running, curve: str, sizes: dict[str, int]) -> dict[str, Any]:
    address = running.address
    job = load.Job(curve, address.host, address.port, address.path, running.pids, seconds=2.0, sizes=sizes)
    return load.run(job)


def _known(stores: int, say: Say, arguments: Arguments) -> dict[str, Any]:
    """Make stores, start the server again, and measure one of them."""
    say(f"  {stores} stores")
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        server = ours(data=Path(directory), arguments=arguments)
        with server.running() as running:
            _ask_of(running, "stores_known", {"stores": stores})
        with server.running() as running:
            return _ask_of(running, "known", {"stores": stores}) | {"start_ms": running.started_s * 1000}


def _pauses(actors: int, say: Say) -> dict[str, Any]:
    say(f"  {actors} actors")
    return _ask("pauses", {"actors": actors, "seconds": PAUSES_SECONDS}, ("--dormant-after-s", "3600"))
