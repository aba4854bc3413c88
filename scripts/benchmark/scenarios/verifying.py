"""After the window: what was acknowledged must be what a new client finds."""

from scripts.benchmark.clients import Puller
from scripts.benchmark.measuring import Ground
from scripts.benchmark.sockets import BenchError, Loop


def expect_log(ground: Ground, loop: Loop, store_id: str, events: int, *, tail: int = 2_000) -> None:
    """Check that a store holds `events` events, numbered from 1, by pulling its last ones.

    Args:
        ground: where.
        loop: serves the pull.
        store_id: the store.
        events: how many were acknowledged.
        tail: how many to pull; the whole of a long log takes the slower servers minutes.

    Raises:
        BenchError: there are more or fewer.
    """
    cursor = None
    if events > tail:
        cursor = (_backend_id(ground, loop, store_id, events), events - tail)
    puller = Puller(ground.address, store_id, cursor)
    loop.add(puller)
    loop.run_until(lambda: puller.done, f"the pull that verifies {store_id}")
    loop.drop(puller)
    expected = min(events, tail)
    if puller.events != expected or (events and puller.last_seq_num != events):
        raise BenchError(
            f"{events} events of {store_id} were acknowledged, but the last {tail} of them are {puller.events}, "
            f"up to e{puller.last_seq_num}"
        )


def _backend_id(ground: Ground, loop: Loop, store_id: str, head: int) -> str:
    """Learn the identity of a store from the beginning of a pull."""
    puller = Puller(ground.address, store_id)
    loop.add(puller)
    loop.run_until(lambda: bool(puller.backend_id), f"the identity of {store_id} at e{head}")
    loop.drop(puller)
    return puller.backend_id
