"""One run of the world: clients at work, faults by the dice, then peace, convergence, and the verdict."""

from __future__ import annotations

import trio
import trio._core._run as trio_run
import trio.testing

from tests.simulation.checker import check
from tests.simulation.clients import Leader, OldClient, Violation
from tests.simulation.world import Trace, World

FAULTS_S = 60.0
"""Virtual time during which things go wrong."""

HEALING_S = 600.0
"""Virtual time within which everybody must have come together again, by themselves."""


def simulate(seed: int) -> Trace:
    """Run one seed.

    Raises:
        Violation: a promise was broken; the same seed shows it again.
    """
    world = World(seed)
    # The one source of chance outside the world: the order in which Trio runs tasks that are ready at the same time.
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_run._r.seed(seed)
    try:
        trio.run(_live, world, clock=trio.testing.MockClock(autojump_threshold=0))
    except* Violation as violations:
        reasons = "; ".join(str(violation) for violation in _leaves(violations))
        raise Violation(f"seed {seed}: {reasons}") from violations
    return world.trace


def _leaves(group: BaseExceptionGroup[Violation]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for member in group.exceptions:
        leaves += _leaves(member) if isinstance(member, BaseExceptionGroup) else [member]
    return leaves


async def _live(world: World) -> None:
    dice = world.dice
    leaders = [Leader(world, f"c{index}", string_ids=dice.random() < 0.7) for index in range(dice.randint(1, 4))]
    old = OldClient(world, "old")
    async with trio.open_nursery() as nursery:
        await world.start_server(nursery)
        for leader in leaders:
            nursery.start_soon(leader.run)
        nursery.start_soon(old.run)
        with trio.move_on_after(FAULTS_S):
            async with trio.open_nursery() as troubles:
                troubles.start_soon(_make_trouble, world, nursery)
                for leader in leaders:
                    troubles.start_soon(_use, world, leader)
        world.disk.faults.heal()
        if world.server is None:
            await world.start_server(nursery)
        await _converge(world, leaders)
        nursery.cancel_scope.cancel()
    check(world.disk.log(), world.disk.heads, leaders)


async def _use(world: World, leader: Leader) -> None:
    """Somebody works with the application."""
    pace_s = world.dice.choice([0.3, 1.0, 5.0])
    while True:
        await trio.sleep(world.dice.expovariate(1 / pace_s))
        for _ in range(world.dice.choice([1] * 20 + [5, 120])):
            leader.commit()


async def _make_trouble(world: World, nursery: trio.Nursery) -> None:
    dice, faults = world.dice, world.disk.faults
    while True:
        await trio.sleep(dice.expovariate(1 / 3.0))
        match dice.choice(["crash", "stop", "cut", "silent", "disk", "disk", "heal"]):
            case "crash":
                world.crash_server()
                await trio.sleep(dice.uniform(0, 3))
                await world.start_server(nursery)
            case "stop":
                await world.stop_server()
                await world.start_server(nursery)
            case "cut" if world.links:
                dice.choice(world.links).cut()
            case "silent" if world.links:
                dice.choice(world.links).go_silent()
            case "disk":
                faults.commit_fails = dice.choice([0, 0.1, 1.0])
                faults.commit_unclear = dice.choice([0, 0.1])
                faults.read_fails = dice.choice([0, 0.2])
                faults.disk_slow_s = dice.choice([0, 0.5, 3.0])
            case _:
                faults.heal()


async def _converge(world: World, leaders: list[Leader]) -> None:
    """With nobody's help, every client gets everything and has nothing left to push."""
    with trio.move_on_after(HEALING_S):
        while True:
            await trio.sleep(1.0)
            log = world.disk.log()
            if all(not leader.pending and len(leader.contents) == len(log) for leader in leaders):
                return
    stuck = {leader.name: (len(leader.pending), leader.head) for leader in leaders}
    raise Violation(f"not converged: {stuck} (pending, head), the log is at {len(world.disk.log())}")
