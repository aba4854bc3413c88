"""How fast something may happen, as an operator writes it: `pushes=100/min`."""

import re
from typing import Final, NamedTuple

_PERIODS_S: Final = {"s": 1.0, "min": 60.0, "h": 3600.0}

RATED: Final = ("connections", "pushes", "events", "bytes")
"""What is counted: WebSockets opened and HTTP requests made; batches; the events in them; their bytes."""


NO_RATE: Final = "off"
"""No limit at all; for the environment, where an empty variable counts as not set."""


class Rate(NamedTuple):
    """`amount` at once, and as much again in every `period_s` seconds."""

    amount: float
    period_s: float

    @property
    def per_s(self) -> float:
        """What comes back in a second."""
        return self.amount / self.period_s


def parse_rates(texts: tuple[str, ...]) -> dict[str, Rate]:
    """Read texts such as `pushes=100/min`.

    Returns:
        A rate for each of `RATED` that is named.

    Raises:
        ValueError: a text is not one, or a thing is named twice.
    """
    rates: dict[str, Rate] = {}
    for text in texts if texts != (NO_RATE,) else ():
        match = re.fullmatch(r"(\w+)\s*=\s*([0-9][0-9_]*)\s*/\s*(s|min|h)", text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a rate such as pushes=100/min")
        thing, amount, period = match.groups()
        if thing not in RATED:
            raise ValueError(f"{thing!r} is none of {', '.join(RATED)}")
        if thing in rates:
            raise ValueError(f"{thing} is named twice")
        if not int(amount):
            raise ValueError(f"{text!r} would allow nothing at all")
        rates[thing] = Rate(float(int(amount)), _PERIODS_S[period])
    return rates
