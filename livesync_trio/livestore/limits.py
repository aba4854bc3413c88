"""The limits of a store in a Python program: the unit is in the name, the source beside it."""

from typing import Final

STORE_PUSH_EVENTS_MAX: Final = 50
"""Events in one push of a store, as LiveStore's leader has it (SPEC section 2)."""

STORE_PULL_HELD_EVENTS: Final = 2_000
STORE_PULL_HELD_BYTES: Final = 8 * 1024 * 1024
"""Events, and bytes of their args, that a store collects from pages of a history before it applies them at once."""

STORE_LOG_READ_EVENTS: Final = 500
"""Events that a store reads from its own log at a time, when it makes its tables anew or goes through its log."""

STORE_STATEMENTS_KEPT: Final = 500
"""SQL texts of which a store remembers what they read and write."""

STORE_RETRY_FIRST_S: Final = 1.0
STORE_RETRY_MAX_S: Final = 30.0
"""First and longest pause of a store after its server refused a push or a pull, as LiveStore's leader has it."""
# --- the change feed -------------------------------------------------------------------------------------------------
