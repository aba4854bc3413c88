"""One client or fifty, each pushing to a store of its own as fast as it is acknowledged."""

from scripts.benchmark.clients import Pusher
from scripts.benchmark.measuring import Figures, Ground, window
from scripts.benchmark.scenarios.verifying import expect_log
from scripts.benchmark.sockets import Address, Loop


def push1(ground: Ground) -> Figures:
    """One client, one event at a time."""
    return _pushing(ground, stores=1, batch=1)


def push100(ground: Ground) -> Figures:
    """One client, batches of 100."""
    return _pushing(ground, stores=1, batch=100)


def stores50(ground: Ground) -> Figures:
    """50 stores, batches of 10."""
    return _pushing(ground, stores=50, batch=10)


def stores50x1(ground: Ground) -> Figures:
    """50 stores, single events."""
    return _pushing(ground, stores=50, batch=1)


def _pushing(ground: Ground, *, stores: int, batch: int) -> Figures:
    loop = Loop()
    pushers = [Pusher(ground.address, f"push-{number}", batch) for number in range(stores)]
    for pusher in pushers:
        loop.add(pusher)
        pusher.push()
    figures = window(
        ground,
        loop,
        "events",
        lambda: sum(pusher.acknowledged for pusher in pushers),
        [pusher.latencies_s for pusher in pushers],
    )
    stop(loop, pushers)
    expect_log(ground, loop, "push-0", pushers[0].acknowledged)
    return figures


def stop(loop: Loop, pushers: list[Pusher]) -> None:
    """Let every push under way be answered, and begin none."""
    for pusher in pushers:
        pusher.may_go_on = False
    loop.run_until(lambda: not any(pusher.waiting for pusher in pushers), "the last acknowledgements")


def fill(loop: Loop, address: Address, store_id: str, events: int) -> None:
    """Put a log of some length into a store, a hundred events a push."""
    pusher = Pusher(address, store_id, min(events, 100))
    loop.add(pusher)
    pusher.push()
    loop.run_until(lambda: pusher.acknowledged >= events - 100, f"{events} events to be stored")
    stop(loop, [pusher])
    loop.drop(pusher)
