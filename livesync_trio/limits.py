"""Every number of the server that is not a setting: the unit is in the name, the source beside it.

Owns nothing but constants. A number that an operator may want to change is a setting (`config.py`) whose default stands
here. Nothing else in the package contains a bare limit.
"""

from typing import Final

# --- the event log -------------------------------------------------------------------------------------------------

PERSISTENCE_FORMAT_VERSION: Final = 7
"""Format of the stored tables and part of their names; the number sync-cf uses (design.md, storage contract)."""

SEQ_NUM_MAX: Final = 2**53 - 1
"""Largest integer that JavaScript holds exactly; sequence numbers lie within ± this (SPEC section 1)."""

STORE_ID_MAX_BYTES: Final = 1024
"""Longest storeId accepted, in UTF-8 bytes. Well above any id seen in the field, well below a request line's bound."""

# --- pages (SPEC 3.5) ----------------------------------------------------------------------------------------------

PAGE_MAX_EVENTS: Final = 100
"""Events in one page of a pull, as the reference server sends (SPEC 3.5)."""

PAGE_MAX_BYTES: Final = 900_000
"""Bytes of one encoded PullResponse; a single larger event is a page of its own (SPEC 3.5)."""

READ_MAX_EVENTS: Final = 1_000
"""Events fetched from storage in one go: ten pages for one thread hop (technology.md measured 1,000-row reads)."""

READ_MAX_BYTES: Final = 1_000_000
"""Event bytes fetched from storage in one go; bounds what one reading pull holds in memory."""

# --- frames and requests -------------------------------------------------------------------------------------------

FRAME_MAX_BYTES: Final = 32 * 1024 * 1024
"""Largest WebSocket message or HTTP body accepted (SPEC 3.5: at least 1 MiB, better 32 MiB; field.md #687, #1540)."""

FRAGMENTS_MAX: Final = 1_024
"""Frames one fragmented WebSocket message may consist of; no client fragments at all (transcripts)."""

HEADERS_MAX_BYTES: Final = 64 * 1024
"""Request line and headers together. The payload travels in the URL, hence more than the usual 16 KiB."""

CLOSE_REASON_MAX_BYTES: Final = 123
"""Longest reason in a close frame (RFC 6455, 5.5: control frames carry 125 bytes, two of them the code)."""

REQUESTS_PER_CONNECTION_MAX: Final = 64
"""Pushes and pulls of one connection that wait to be handled. A real client has a handful (SPEC 3.5: sequential)."""

OPEN_PULLS_PER_CONNECTION_MAX: Final = 32
"""Default of the setting `max_open_pulls`: live or running pulls on one connection. A real client keeps one."""

# --- the actor -----------------------------------------------------------------------------------------------------

MAILBOX_COMMANDS: Final = 256
"""Commands a store's mailbox holds before it slows its senders down (bursts: 0.4 µs each, technology.md)."""

DORMANT_AFTER_S: Final = 30.0
"""Quiet time without followers after which a store leaves memory. Longer than a client's reconnect (SPEC 3.6)."""

CRASH_BACKOFF_FIRST_S: Final = 0.05
CRASH_BACKOFF_MAX_S: Final = 5.0
"""Wait before a crashed actor's next generation, doubling from first to max."""

CRASHES_BEFORE_FENCE: Final = 8
"""Crashes within `CRASH_WINDOW_S` after which a store is fenced: refused and shown in /health until the window ends."""

CRASH_WINDOW_S: Final = 60.0
"""Window over which crashes of one store are counted."""

# --- storage threads -----------------------------------------------------------------------------------------------

GROUP_COMMIT_MAX_OPS: Final = 512
"""Writes of any stores that share one transaction (technology.md: group commit, 10.8 k batches/s at 200 stores)."""

GROUP_COMMIT_MAX_BYTES: Final = 16 * 1024 * 1024
"""Event bytes that share one transaction; a larger single batch is a group of its own."""

READER_THREADS: Final = 4
"""Threads and database handles that read history at the same time; two cores are the machine this was sized on."""

CLEAR_STEP_EVENTS: Final = 2_000
"""Rows of replaced logs deleted in one step in the background, a few milliseconds of the writer's time."""

CLEAR_INTERVAL_S: Final = 1.0
"""Pause between two looks for replaced logs to clear when there was nothing to do."""

STORAGE_BACKOFF_FIRST_S: Final = 0.1
STORAGE_BACKOFF_MAX_S: Final = 5.0
"""Pulls that meet unavailable storage try again after these, doubling (SPEC section 2: never fail a pull for it)."""

HTTP_PULL_STORAGE_PATIENCE_S: Final = 8.0
"""How long an HTTP pull waits for storage to come back; below the reference's 10 s request limit (SPEC 3.7)."""

SQLITE_BUSY_TIMEOUT_MS: Final = 5_000
"""How long SQLite waits for another process's lock (a backup tool, say) before it reports storage unavailable."""

SQLITE_VERSION_MIN: Final = (3, 34, 0)
"""Oldest SQLite served with; what Python 3.11 finds on the oldest systems still kept (Red Hat 9)."""

SQLITE_CHECKPOINT_PAGES: Final = 1_000
"""WAL pages (of 4 KiB) after which a commit copies them into the database file: 7 ms at worst once in a while. Four
times as many: 30 ms at the same throughput (decision 0003)."""

SQLITE_WAL_KEPT_BYTES: Final = 16 * 1024 * 1024
"""Size to which the WAL file is cut back after something large passed through it."""

SQLITE_WRITER_CACHE_KIB: Final = 16 * 1024
SQLITE_READER_CACHE_KIB: Final = 4 * 1024
"""Page cache of the writing handle, and of each reading one (decision 0003)."""

SQLITE_INSERT_MAX_ROWS: Final = 2_048
"""Events in one statement; seven parameters each, below the 32,766 that SQLite allows. A power of two."""

SQLITE_INSERT_MAX_BYTES: Final = 1024 * 1024
"""Event bytes in one statement, which SQLite holds in memory twice; a single larger event has its own."""

BACKEND_ID_RANDOM_BYTES: Final = 16
"""Randomness of a store's identity, as much as a UUID has; 22 characters of base64url (reference: nanoid, 21)."""

# --- connections ---------------------------------------------------------------------------------------------------

OUTBOX_MAX_BYTES: Final = 1024 * 1024
"""Bytes queued for one peer above which its live pulls are sent back to the log (design.md, law 4)."""

OUTBOX_LOW_WATER_BYTES: Final = 256 * 1024
"""A pull that reads the log waits until the outbox holds less than this before it adds the next pages."""

OUTBOX_HARD_MAX_BYTES: Final = 4 * 1024 * 1024
"""Above this, nothing more is read from the peer until it takes what is queued for it."""

WRITE_SLICE_BYTES: Final = 64 * 1024
"""Bytes handed to the socket at once; a peer that does not take one slice within the stall limit takes nothing."""

WRITE_BATCH_BYTES: Final = 256 * 1024
"""Queued messages joined into one write; many frames a system call (technology.md: 150-190 k deliveries/s)."""

RECEIVE_BYTES: Final = 64 * 1024
"""Bytes asked of the socket at once."""

STALL_LIMIT_S: Final = 60.0
"""Default of `stall_limit_s`: a peer that takes no bytes for this long is closed (design.md, law 4)."""

HANDSHAKE_LIMIT_S: Final = 10.0
"""Default of `handshake_limit_s`: from connecting to a complete request head (slowloris)."""

REQUEST_BODY_LIMIT_S: Final = 60.0
"""From a complete request head to the complete body."""

KEEP_ALIVE_S: Final = 75.0
"""Idle time of an HTTP connection between two requests. Above the 60 s of common proxies, which must close first."""

PROBE_AFTER_S: Final = 20.0
"""Silence after which the server sends a WebSocket ping; clients ping every 10 to 30 s by themselves (SPEC 3.6)."""

IDLE_LIMIT_S: Final = 75.0
"""Default of `idle_limit_s`: silence after which a WebSocket is dead; thrice the slowest client's pause (SPEC 5.3)."""

LIVENESS_SWEEP_S: Final = 5.0
"""How often one task looks at the silence of all connections, so that none needs a timer of its own."""

CLOSE_LIMIT_S: Final = 2.0
"""How long a closing WebSocket waits for the peer's close frame before the socket is cut."""

ORPHAN_GRACE_S: Final = 0.5
"""After the sign of an orphaned pull: time for the client to open a live pull before its socket is closed (SPEC 3.6;
"whatever a server does not know it must answer or close, within a second", field.md)."""

ORPHAN_QUIET_S: Final = 15.0
"""Age a connection must have before its pings alone count as such a sign; a client pings every 10 s (SPEC 3.6)."""

ORPHAN_PINGS: Final = 2
"""Pings of a connection that never asked for anything that show an orphaned pull (SPEC 3.6)."""

CONTROL_MAX_BYTES: Final = 64 * 1024
"""Pongs queued for a peer above which nothing more is read from it (a ping flood from one that does not read)."""

# --- hooks and shutdown --------------------------------------------------------------------------------------------

HOOK_LIMIT_S: Final = 5.0
"""Default of `hook_limit_s`: a hook that takes longer is cut off. Below the client's 10 s ping timeout (SPEC 3.6)."""

HOOK_THREADS: Final = 256
"""Plain hook functions that run at the same time; high, so that hung ones do not hold up the others."""

DRAIN_LIMIT_S: Final = 10.0
"""Default of `drain_limit_s`: from the first signal until what still runs is cut. Below the 30 s that PaaS allow."""

# --- configuration -------------------------------------------------------------------------------------------------

FRAME_MAX_LEAST_BYTES: Final = 1024 * 1024
"""Smallest `frame_max_bytes` that may be set: every client sends frames of 900 kB and a little (SPEC 3.5)."""

SECRET_FILE_MAX_BYTES: Final = 64 * 1024
"""Longest file with a secret; a wrong path, say a device, is noticed instead of read for ever."""

GC_THRESHOLDS: Final = (20_000, 50, 100)
"""Garbage collector thresholds after start-up; full collections over many actors pause for long (technology.md)."""
