"""The limits of webhooks; what the configuration checks is in `livesync_trio.limits`."""

from typing import Final

WEBHOOK_BODY_BYTES: Final = 512 * 1024
"""Bytes of events in one message, unless a single one is larger: common receivers take 1 MB (nginx's default)."""

WEBHOOK_WORKERS: Final = 8
"""Messages of one webhook under way at a time, each of another store. With `WEBHOOK_BODY_BYTES` it bounds what a
receiver that hangs holds in memory; larger single events go one at a time."""

WEBHOOK_STORES_MAX: Final = 10_000
"""Stores of one webhook that wait in memory, some 300 bytes each; what is beyond is found again by comparing."""

WEBHOOK_CONNECT_LIMIT_S: Final = 10.0
WEBHOOK_ATTEMPT_LIMIT_S: Final = 20.0
"""From the look-up of a receiver's name until its status; Standard Webhooks recommends 15 to 30 s."""

WEBHOOK_ANSWER_LIMIT_S: Final = 2.0
WEBHOOK_ANSWER_MAX_BYTES: Final = 16 * 1024
"""For how long, and how much of, an answer's body is read, so that its connection can be used again; then it is cut."""

WEBHOOK_RETRY_FIRST_S: Final = 5.0
WEBHOOK_RETRY_MAX_S: Final = 8 * 3_600.0
WEBHOOK_ATTEMPTS: Final = 22
"""Pauses double from first to max; a store is parked after that many attempts, which is after three days (the pauses
are 5 s to 5.7 h, and nine of 8 h; each is cut by up to a quarter at random, so two and a half days at least)."""

WEBHOOK_RETRY_AFTER_MAX_S: Final = 24 * 3_600.0
"""Longest `Retry-After` that is obeyed."""

WEBHOOK_REASON_CHARACTERS: Final = 200
"""Of what a failure was, no more is kept."""

WEBHOOK_LOOK_S: Final = 2.0
"""How often servers of one database look whether webhooks were changed by another one."""

WEBHOOK_WATCH_S: Final = 10.0
"""How often a server without webhooks, on a database of several, looks whether there are some now."""

WEBHOOK_LEASE_S: Final = 6.0
WEBHOOK_LEASE_RENEW_S: Final = 1.5
"""A server whose lease has not been renewed for so long counts as dead: another one delivers. It renews often enough to
fail twice; a clean stop gives the lease up at once."""

WEBHOOK_DRAIN_LIMIT_S: Final = 2.0
"""How long a server that stops waits for messages under way; a receiver that hangs must not cost clients their end."""

WEBHOOK_COMPARE_S: Final = 120.0
"""How often, with several servers on one database, all heads are compared with the cursors: a server may die between
its commit and its notification."""

WEBHOOK_READER_THREADS: Final = 2
"""Threads and database handles that read what is delivered, apart from those of pulls."""

WEBHOOK_STARTING_AT_A_TIME: Final = 32
"""Cursors written at the same time when a webhook begins at the heads of all stores (`GROUP_COMMIT_MAX_OPENINGS`)."""
