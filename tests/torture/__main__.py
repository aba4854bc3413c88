"""`scripts/torture`: runs the attacks by hand, as large as wanted, and says what it found."""

from __future__ import annotations

import functools
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import click
import trio

from tests.conformance import node_packages
from tests.feed import seeds as feed_seeds
from tests.postgres.server import fresh_schema
from tests.security.memory_under_attack import LIMIT_MIB, beyond_limit
from tests.simulation.leader import Violation
from tests.torture import clients, crash, disk, logs, mutants, network, shim, storm
from tests.torture.bits import flip_bits
from tests.torture.server import ROOT
from tests.torture.soak import Soak

PROCESSES = 2


def say(text: str) -> None:
    """Tell whoever runs this."""
    click.echo(text)


@attrs.frozen
class Run:
    """How one attack is run. `ci`: so small that a machine has time for it at every change."""

    seed: int
    seeds: int | None
    minutes: float
    ci: bool
    stores: bool
    rows: int | None = None

    @property
    def dice(self) -> random.Random:
        """Chance, anew for each attack."""
        return random.Random(self.seed)

    def size(self, by_hand: int, in_ci: int) -> int:
        """How much is done."""
        return in_ci if self.ci else by_hand


@contextmanager
def _directory(name: str) -> Iterator[Path]:
    """A place for servers' files; kept, and told of, when something was found."""
    path = Path(tempfile.mkdtemp(prefix=f"torture-{name}-"))
    try:
        yield path
    except BaseException:
        say(f"the files of the run are in {path}")
        raise
    subprocess.run(["rm", "-rf", str(path)], check=True)


def simulate(run: Run) -> None:
    """Seeds of the simulation, `--seeds` of them from `--seed` on, in two processes."""
    seeds = run.seeds or run.size(100_000, 1_000)
    share = -(-seeds // PROCESSES)
    stores = ["stores"] if run.stores else []
    firsts = range(run.seed, run.seed + seeds, share)
    commands = [
        [sys.executable, "-m", "tests.simulation", str(first), str(min(share, run.seed + seeds - first)), *stores]
        for first in firsts
    ]
    running = [subprocess.Popen(command, cwd=ROOT) for command in commands]
    codes = [process.wait() for process in running]
    if any(codes):
        raise Violation(
            "seeds failed; replay one: scripts/torture simulate --seeds 1 --seed N (and --stores, if given)"
        )


def crash_attack(run: Run) -> None:
    """kill -9 of a real server at random points under 50 writers and 20 live readers."""
    with _directory("crash") as directory:
        trio.run(crash.Crashes().run, directory, run.size(1_000, 10), run.dice, say)


def disk_attack(run: Run) -> None:
    """Failing calls, a full disk, power cuts, flipped bits."""
    _needs(shim.missing_programs())
    with _directory("disk") as directory:
        dice = run.dice
        for name in ("calls", "full", "power"):
            (directory / name).mkdir()
        trio.run(disk.failing_calls, directory / "calls", run.size(300, 12), dice, say)
        trio.run(disk.full_disk, directory / "full", dice)
        power = directory / "power"
        trio.run(disk.cut_power, power, run.size(1_000, 120), run.size(3_000, 80), dice, say)
        for name, what in (("live.db", "of a stopped server"), ("cut.db", "after a power cut")):
            say(f"bits flipped in the files {what}: {dict(flip_bits(power / name, run.size(3_000, 60), dice))}")


def logs_attack(run: Run) -> None:
    """Log and database on one full disk, the log's reader killed or asleep, the audit log full; SIGHUP in each."""
    _needs(shim.missing_programs())
    with _directory("logs") as directory:
        trio.run(logs.logs, directory, run.dice, say)


def network_attack(run: Run) -> None:
    """Half-open connections, readers that stop, a storm of reconnecting clients."""
    for name, attack in (
        ("half-open", network.half_open),
        ("stopped", functools.partial(_stopped, run.size(100, 10), run.size(40, 8))),
        ("storm", functools.partial(_storm, run.size(10_000, 500))),
    ):
        with _directory(name) as directory:
            trio.run(attack, directory, run.dice, say)


async def _stopped(
    readers: int, megabytes: int, directory: Path, dice: random.Random, tell: Callable[[str], None]
) -> None:
    await network.stopped_readers(directory, readers, megabytes, dice, tell)


async def _storm(count: int, directory: Path, dice: random.Random, tell: Callable[[str], None]) -> None:
    await storm.storm(directory, count, dice, tell)


def memory_attack(run: Run) -> None:
    """Thousands of clients that want the server to hold much: it stays below the figure of docs/hardening.md."""
    beyond = beyond_limit(run.size(2_000, 100), run.size(12, 4), say)
    if beyond:
        raise Violation(f"more than {LIMIT_MIB} MiB: {', '.join(beyond)}")


def clients_attack(run: Run) -> None:
    """Real LiveStore clients while the server restarts every few seconds; then two servers on one PostgreSQL."""
    _needs(node_packages.missing_programs())
    for package_set in ("v0.3", "v0.4"):
        node_packages.install(package_set)
    with _directory("clients") as directory:
        clients.real_clients(directory, run.size(200, 20), run.size(12, 3), run.dice, say)
    with _directory("two-servers") as directory:
        schema = fresh_schema(str(directory))
        clients.real_clients(directory, run.size(200, 12), run.size(12, 2), run.dice, say, postgres=schema)


def feed_attack(run: Run) -> None:
    """The feed: statements fail or die, PostgreSQL and servers are killed; `--seeds` of it, or `--rows` at once."""
    if run.rows is not None:
        environment = {**os.environ, feed_seeds.ROWS_VARIABLE: str(run.rows)}
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-n", "0", "tests/feed/test_large.py"]
        if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
            raise Violation(f"a transaction of {run.rows} rows broke the feed's promise")
        return
    environment = {**os.environ, feed_seeds.VARIABLE: f"{run.seed}:{run.seeds or run.size(20, 1)}"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-x",
        "tests/feed/test_faults.py",
        "tests/feed/test_oracle.py",
    ]
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        raise Violation("the feed broke its promise; the seed stands in the name of the test that failed")


def mutants_attack(run: Run) -> None:
    """Faults put in on purpose: all of them by hand, and mutants.md is written; six with `--ci`."""
    found = mutants.mutants()
    with _directory("mutants") as directory:
        chosen = run.dice.sample(found, 6) if run.ci else found
        useless = [] if run.ci else mutants.control(chosen, directory, say)
        verdicts = mutants.judged(chosen, directory, say)
    survived = mutants.survivors(verdicts)
    if not run.ci:
        Path("mutants.md").write_text(mutants.table(verdicts))
    if useless or survived:
        raise Violation(f"not noticed: {survived}; tests that fail without any fault: {useless}")


def soak_attack(run: Run) -> None:
    """Mixed load for `--minutes`; writes soak.json and soak.svg into the working directory."""
    soak = Soak()
    with _directory("soak") as directory:
        try:
            trio.run(soak.run, directory, 0.1 if run.ci else run.minutes, run.dice, say)
        finally:
            if soak.samples:
                Path("soak.json").write_text(json.dumps([attrs.asdict(sample) for sample in soak.samples]))
                Path("soak.svg").write_text(soak.drawing(f"soak, seed {run.seed}"))
    if not run.ci:
        soak.check_flat()
    say(f"flat; all converged; {soak.auditor.acknowledgements} acknowledged pushes found in the file")


ATTACKS: dict[str, Callable[[Run], None]] = {
    "simulate": simulate,
    "crash": crash_attack,
    "disk": disk_attack,
    "logs": logs_attack,
    "network": network_attack,
    "memory": memory_attack,
    "clients": clients_attack,
    "feed": feed_attack,
    "mutants": mutants_attack,
    "soak": soak_attack,
}


def _needs(missing: list[str]) -> None:
    if missing:
        raise Violation(f"{' and '.join(missing)} not found: this attack was NOT RUN")


@click.command(
    help="Attack the server's promises.\n\n\b\n"
    + "\n".join(f"{name:<9} {(attack.__doc__ or '').splitlines()[0]}" for name, attack in ATTACKS.items())
)
@click.argument("attack", type=click.Choice([*ATTACKS, "all"]))
@click.option("--seed", type=int, help="What decides everything that is left to chance; printed at the start.")
@click.option("--seeds", type=int, help="How many seeds of the simulation, or of the feed.")
@click.option(
    "--rows", type=int, help="Of one transaction that the feed stores in bounded memory, instead of its seeds."
)
@click.option("--stores", is_flag=True, help="Python stores among the clients of every seed of the simulation.")
@click.option("--minutes", type=float, default=60.0, show_default=True, help="Length of the soak.")
@click.option("--ci", is_flag=True, help="Small: minutes in all.")
def main(
    attack: str, seed: int | None, seeds: int | None, rows: int | None, minutes: float, *, stores: bool, ci: bool
) -> None:
    """Run one attack, or all of them."""
    run = Run(random.randrange(10**6) if seed is None else seed, seeds, minutes, ci, stores, rows)
    for name in ATTACKS if attack == "all" else [attack]:
        say(f"--- {name}, seed {run.seed}")
        ATTACKS[name](run)


if __name__ == "__main__":
    main()
