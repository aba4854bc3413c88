"""Which store ids are taken. An id is taken as it is or refused, never rewritten."""

import re
from typing import Final

import attrs

from livesync_trio.errors import Kind, Refusal
from livesync_trio.limits import STORE_ID_MAX_BYTES
from livesync_trio.model import RESERVED_STORES

RESERVED: Final = Refusal(
    Kind.BAD_SYNC_URL, f"Store ids that begin with {RESERVED_STORES} are the server's own, for imports under way."
)


@attrs.frozen
class StoreIdPolicy:
    """What an id must look like.

    Attributes:
        pattern: what it must match as a whole, None for anything.
        max_bytes: its longest, in UTF-8 bytes.
    """

    pattern: re.Pattern[str] | None = None
    max_bytes: int = STORE_ID_MAX_BYTES

    def refusal(self, store_id: str) -> Refusal | None:
        """None for an id that is taken."""
        if len(store_id.encode()) > self.max_bytes:
            return Refusal(Kind.BAD_SYNC_URL, f"Store ids have at most {self.max_bytes} bytes here.")
        if store_id.startswith(RESERVED_STORES):
            return RESERVED
        if self.pattern is not None and self.pattern.fullmatch(store_id) is None:
            return Refusal(Kind.BAD_SYNC_URL, "Store ids of this form are not taken here (store_id_pattern).")
        return None
