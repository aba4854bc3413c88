"""The limits of the change feed; the defaults of its settings are in `livesync_trio.limits`."""

from typing import Final

FEED_STATEMENT_LIMIT_S: Final = 3_600.0
"""How long one statement on the history may take: emptying a table of millions of rows is one."""

FEED_LOOK_UP_S: Final = 0.5
"""How often a thread that waits for the source looks whether it is to stop."""

FEED_BATCH_ROWS: Final = 2_000
FEED_BATCH_BYTES: Final = 4 * 1024 * 1024
"""Changes, and their bytes, held in memory before they are written. A larger transaction is written in parts."""

FEED_PAGE_CHANGES: Final = 500
FEED_PAGE_BYTES: Final = 1024 * 1024
FEED_PAGES_KEPT: Final = 8
"""Changes, or rows, in one message to a client, and the size of their rows behind which no more are added. So many
pages are kept for followers who stand at the same place."""

FEED_CHECK_S: Final = 30.0
"""How often is looked at what the log does not tell, and at what is kept no more."""
