"""What is done to a server; the scenarios of issue 5, by name.

Every scenario opens its clients, lets them run warm, measures one window and then checks that nothing was lost: what
was acknowledged is what a pull finds.
"""

from collections.abc import Callable
from typing import Any, Final

import attrs
from scripts.benchmark.measuring import Figures, Ground
from scripts.benchmark.scenarios import api, coldpull, contend, fanout, http, idle, mixed, pushing
from scripts.benchmark.scenarios.idle import PER_CONNECTION


@attrs.frozen
class Scenario:
    """A scenario, and what the issue asks of it.

    Attributes:
        name: as given to `--only`.
        title: one line for people.
        run: does it.
        goals: least ratio to another server, by its name.
        not_for: servers that do not have what it takes.
        settings: in the environment of our server.
        memory: what is compared is memory, of which less is better, instead of the rate.
    """

    name: str
    title: str
    run: Callable[[Ground], Figures]
    goals: dict[str, float] = attrs.field(factory=dict)
    not_for: frozenset[str] = frozenset()
    settings: dict[str, str] = attrs.field(factory=dict)
    memory: bool = False

    def ratio(self, mine: Figures, other: Figures) -> float | None:
        """How many times better mine is; None when that is not known."""
        if not self.memory:
            return mine.rate / other.rate if other.rate else None
        mine_kib, other_kib = mine.more.get(PER_CONNECTION), other.more.get(PER_CONNECTION)
        return other_kib / mine_kib if mine_kib and other_kib else None


_API: Final[dict[str, Any]] = {
    "settings": {"LIVESYNC_API": "true"},
    "not_for": frozenset({"node", "node-ws", "trio", "reference"}),
}
_ALL: Final = (
    Scenario("push1", "one client, one event at a time", pushing.push1, {"node": 1.0, "reference": 4}),
    Scenario("push100", "one client, batches of 100", pushing.push100, {"node": 1.0, "reference": 60}),
    Scenario("stores50", "50 stores, batches of 10", pushing.stores50, {"node": 1.0, "reference": 20}),
    Scenario("stores50x1", "50 stores, single events", pushing.stores50x1, {"node": 1.0, "reference": 25}),
    Scenario("fanout200", "one pusher, 200 live subscribers", fanout.fanout200, {"node": 2.0, "reference": 50}),
    Scenario("coldpull", "a new client pulls 20,000 events", coldpull.coldpull, {"node": 2.0, "reference": 300}),
    Scenario("contend8", "eight writers racing on one store", contend.contend8, {"node": 1.0, "reference": 20}),
    Scenario("http", "push1 and polling pulls over HTTP", http.http, {"reference": 4}, frozenset({"node"})),
    Scenario("idle", "10,000 live subscribers, each its own store", idle.idle, {"reference": 3}, memory=True),
    Scenario("mixed", "busy stores beside everything else", mixed.mixed, not_for=frozenset({"reference"})),
    Scenario("append1", "one program by HTTP, one event at a time", api.append1, **_API),
    Scenario("append100", "one program by HTTP, batches of 100", api.append100, **_API),
    Scenario("stream200", "one pusher, 200 followers by server-sent events", api.stream200, **_API),
)
SCENARIOS: Final = {scenario.name: scenario for scenario in _ALL}
