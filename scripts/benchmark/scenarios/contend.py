"""Eight writers who all want to be the next in one store."""

from scripts.benchmark.clients import Racer
from scripts.benchmark.measuring import Figures, Ground, window
from scripts.benchmark.scenarios.verifying import expect_log
from scripts.benchmark.sockets import BenchError, Loop


def contend8(ground: Ground) -> Figures:
    """Eight writers racing on one store."""
    loop = Loop()
    racers = [Racer(ground.address, "contend") for _ in range(8)]
    for racer in racers:
        loop.add(racer)
    loop.run_for(0.3)  # until the live pulls are registered
    for racer in racers:
        racer.push()

    def accepted() -> int:
        return sum(racer.accepted for racer in racers)

    figures = window(ground, loop, "accepted events", accepted, [racer.latencies_s for racer in racers])
    for racer in racers:
        racer.may_go_on = False
    loop.run_until(lambda: not any(racer.waiting for racer in racers), "the last answers")
    loop.run_until(lambda: all(racer.events >= accepted() for racer in racers), "the last deliveries")
    wrong = {racer.events for racer in racers} - {accepted()}
    if wrong:
        raise BenchError(f"{accepted()} events were accepted, some writers have got {sorted(wrong)[:5]}")
    expect_log(ground, loop, "contend", accepted())
    figures.more["refused"] = sum(racer.refused for racer in racers)
    return figures
