"""One run of the world: clients at work, faults by the dice, then peace, convergence, and the verdict."""

from __future__ import annotations

import contextlib
import functools
import random
import tempfile
from collections import Counter
from pathlib import Path

import attrs
import trio
import trio.testing

from tests.simulation.checker import check
from tests.simulation.disk import STORE
from tests.simulation.every_step import Watch
from tests.simulation.leader import Leader, Violation
from tests.simulation.linearizability import check_linearizable
from tests.simulation.old_client import OldClient
from tests.simulation.program import Program, check_programs
from tests.simulation.python_store import PythonStore, check_stores, simulated
from tests.simulation.squeeze import squeezed
from tests.simulation.waiting import until
from tests.simulation.world import Trace, World

HEALING_S = 900.0
"""Virtual time within which everybody must have come together again, by themselves."""

READS_OF_REPLACED_MAX = 20
"""After each reset so many readers may meet it; more are readers that learn nothing from it."""

PROGRAMS_EACH_FIFTH = 3
"""Seeds with this remainder have programs as well; the others fall as they did before there were any."""

STORES_EACH_49TH = 26
"""Seeds with this remainder have Python stores as well, which takes them five times as long."""

TROUBLES = (
    *("crash", "power", "deadly disk", "stop", "disk", "disk", "heal", "cut", "cut", "silent"),
    *("leave", "late", "late", "restart", "slow reader", "bug", "hooks", "reset"),
)


@attrs.frozen
class Outcome:
    """What a seed led to: how much was stored and acknowledged, and what the servers counted in all their lives.

    Attributes:
        steps: of Trio's scheduler, after each of which the invariants held.
        pushed_again: pushes that repeat one whose outcome their client did not learn.
        sent_again: events that programs sent although their store had them.
        stored: events that Python stores committed.
        rebases: how often Python stores gave pending events other numbers.
    """

    trace: Trace
    steps: int
    events: int
    acknowledged: int
    pushed_again: int
    resets: int
    sent_back: int
    actors_crashed: int
    orphans_closed: int
    sent_again: int
    stored: int
    rebases: int


def simulate(seed: int, *, stores: bool = False) -> Outcome:
    """Run one seed.

    Args:
        seed: what decides everything.
        stores: whether there are Python stores in any case.

    Raises:
        Violation: a promise was broken; the same seed shows it again.
    """
    dice = random.Random(seed)
    with contextlib.ExitStack() as stack:
        crashes = stack.enter_context(squeezed(seed, dice))
        world = World(
            dice,
            servers=dice.choice([1, 1, 1, 2]),
            read_max_events=dice.choice([3, 20, 1000]),
            hooks=dice.random() < 0.3,
        )
        world.programs = 2 if seed % 5 == PROGRAMS_EACH_FIFTH else 0
        python = _make_stores(world, seed, stack) if stores or seed % 49 == STORES_EACH_49TH else []
        watch = Watch(world)
        try:
            outcome = trio.run(
                _live, world, watch, python, clock=trio.testing.MockClock(autojump_threshold=0), instruments=[watch]
            )
        except* Violation as violations:
            reasons = "; ".join(str(violation) for violation in _leaves(violations))
            raise Violation(f"seed {seed}: {reasons} {crashes}") from violations
        if crashes:
            raise Violation(f"seed {seed}: {crashes}")
    return outcome


def _make_stores(world: World, seed: int, stack: contextlib.ExitStack) -> list[PythonStore]:
    """Dice of their own: the other seeds fall as they did before there were any."""
    dice = random.Random(f"stores {seed}")
    stack.enter_context(simulated(dice))
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    names = [f"python{index}" for index in range(dice.choice([1, 1, 2]))]
    return [PythonStore(world, name, directory / f"{name}.db", random.Random(f"{name} {seed}")) for name in names]


def _leaves(group: BaseExceptionGroup[Violation]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for member in group.exceptions:
        leaves += _leaves(member) if isinstance(member, BaseExceptionGroup) else [member]
    return leaves


async def _live(world: World, watch: Watch, stores: list[PythonStore]) -> Outcome:
    dice = world.dice
    leaders = [
        Leader(world.connect, STORE, f"c{index}", dice, string_ids=dice.random() < 0.7)
        for index in range(dice.randint(1, 4))
    ]
    connect = functools.partial(world.connect, v3=True)
    old = OldClient(connect, "old", dice, lambda: len(world.disk.histories), world.logs_heard_of)
    programs = [Program(world, f"p{index}", random.Random(index)) for index in range(world.programs)]
    others: list[Program | PythonStore] = [*programs, *stores]
    watch.leaders = leaders
    async with trio.open_nursery() as nursery:
        watch.scope = nursery.cancel_scope
        await world.start_servers(nursery)
        for leader in leaders:
            nursery.start_soon(leader.run)
        nursery.start_soon(old.run)
        for each in others:
            nursery.start_soon(each.run)
        with trio.move_on_after(dice.choice([8.0, 15.0, 30.0])):
            async with trio.open_nursery() as troubles:
                troubles.start_soon(_make_trouble, world, leaders, nursery)
                for leader in leaders:
                    troubles.start_soon(_use, world, leader)
        await _make_peace(world, leaders, nursery)
        for each in others:
            each.rest()
        if not await until(lambda: all(each.told for each in programs), HEALING_S, every_s=1.0):
            raise Violation("a program was never told what became of its events")
        await _converge(world, leaders, stores)
        nursery.cancel_scope.cancel()
    if watch.violation is not None:
        raise watch.violation
    histories = world.disk.conclude()
    if world.disk.reads_of_replaced > READS_OF_REPLACED_MAX * len(histories):
        raise Violation(f"a log that is gone was asked for {world.disk.reads_of_replaced} times")
    check(histories, leaders, one_server=world.wanted == 1)
    if world.wanted == 1:
        check_linearizable(histories, leaders, [attempt for each in others for attempt in each.attempts(histories)])
    check_programs(histories, programs)
    check_stores(histories, stores)
    world.trace.append(f"all that clients were sent: {world.trace.checksum:08x}")
    acknowledged = sum(attempt.outcome == "ok" for leader in leaders for attempt in leader.attempts)
    return Outcome(
        world.trace,
        watch.steps,
        sum(len(each.events) for each in histories),
        acknowledged,
        sum(map(_pushed_again, leaders)),
        len(histories) - 1,
        sum(counters.followers_sent_back for counters in world.counters),
        sum(counters.actors_crashed for counters in world.counters),
        sum(counters.orphans_closed for counters in world.counters),
        sum(counters.events_repeated for counters in world.counters),
        sum(len(store.committed) for store in stores),
        sum(store.rebases for store in stores),
    )


def _pushed_again(leader: Leader) -> int:
    unknown = Counter((each.backend_id, each.parent, each.contents) for each in leader.attempts)
    return sum(unknown.values()) - len(unknown)


async def _use(world: World, leader: Leader) -> None:
    """Somebody works with the application."""
    pace_s = world.dice.choice([0.4, 1.5, 5.0])
    while True:
        await trio.sleep(world.dice.expovariate(1 / pace_s))
        for _ in range(world.dice.choice([1] * 20 + [5, 60])):
            leader.commit("x" * world.dice.choice([0, 0, 0, 150]))


async def _make_trouble(  # noqa: C901 -- a list
    world: World, leaders: list[Leader], nursery: trio.Nursery
) -> None:
    dice, faults = world.dice, world.disk.faults
    while True:
        await trio.sleep(dice.expovariate(1 / 2.0))
        await world.start_servers(nursery)
        trouble = dice.choice(TROUBLES)
        link = dice.choice(world.links) if world.links else None
        match trouble:
            case "crash":
                world.crash_server()
                await trio.sleep(dice.uniform(0, 3))
                await world.start_servers(nursery)
            case "power":
                world.cut_power()
            case "deadly disk":
                faults.commit_kills = dice.choice([0, 0.05, 0.2])
            case "stop":
                await world.stop_server()
                await world.start_servers(nursery)
            case "cut" if link:
                link.cut()
            case "silent" if link:
                link.go_silent()
            case "leave" if link:
                link.leave()
            case "late" if link:
                link.congest(dice.uniform(1.0, 6.0))
                await trio.sleep(dice.uniform(0, 1.0))
                link.leave()
            case "restart":
                dice.choice(leaders).restart()
            case "slow reader":
                dice.choice(leaders).slowness_s = dice.choice([0.0, 0.5, 3.0])
            case "disk":
                faults.commit_fails = dice.choice([0, 0.1, 1.0])
                faults.commit_unclear = dice.choice([0, 0.1])
                faults.read_fails = dice.choice([0, 0.2])
                faults.disk_slow_s = dice.choice([0, 0.5, 3.0])
            case "bug":
                faults.commit_crashes = dice.choice([0, 0.1])
            case "hooks":
                world.hooks_refuse = dice.choice([0, 0.3])
            case "reset" if dice.random() < 0.3:
                await world.reset_store()
            case _:
                faults.heal()


async def _make_peace(world: World, leaders: list[Leader], nursery: trio.Nursery) -> None:
    """Nothing goes wrong any more, but that hints between servers go on to be lost."""
    world.disk.faults.heal()
    world.hooks_refuse = 0.0
    for leader in leaders:
        leader.slowness_s = 0.0
    await world.start_servers(nursery)


async def _converge(world: World, leaders: list[Leader], stores: list[PythonStore]) -> None:
    """With nobody's help, every client gets everything and has nothing left to push."""
    if await until(lambda: _converged(world, leaders, stores), HEALING_S, every_s=1.0):
        return
    stuck = {leader.name: (len(leader.pending), leader.log.head) for leader in leaders}
    stuck |= {store.name: store.stands_at for store in stores}
    raise Violation(f"not converged: {stuck} (pending, head), the log is at {world.disk.state}")


def _converged(world: World, leaders: list[Leader], stores: list[PythonStore]) -> bool:
    state = world.disk.state
    return (
        state is not None
        and all(
            leader.settled and (leader.log.backend_id, leader.log.head) == (state.backend_id, state.head)
            for leader in leaders
        )
        and all(store.settled_at(world.disk.histories[-1]) for store in stores)
    )
