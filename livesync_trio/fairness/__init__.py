"""Who may take how much: rates, and what may be held at a time.

Owns token buckets and counts, by user, address and store. Pure: it is told the time, it never waits; whoever asks it
slows down or refuses. Knows no sockets, no stores, no tasks.
"""

from livesync_trio.fairness.buckets import Attempts, WrongTokens, address_group
from livesync_trio.fairness.rules import Fairness, Held, Meter, Slot

__all__ = ["Attempts", "Fairness", "Held", "Meter", "Slot", "WrongTokens", "address_group"]
