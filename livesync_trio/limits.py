"""The limits that several modules share, and the defaults of settings: the unit is in the name, the source beside it.

A limit that one module uses alone is a constant beside its use, and those of one capability are in its package
(`client/limits.py`, `delivery`, `feed`, `livestore`), named in the same way. A number that an operator may want to
change is a setting (`config/groups.py`) whose default is here. No code contains a bare limit.
"""

from typing import Final

# --- the event log -------------------------------------------------------------------------------------------------

PERSISTENCE_FORMAT_VERSION: Final = 7
"""Format of the stored tables and part of their names; the number sync-cf uses (storage/base.py)."""

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
"""Events fetched from storage in one go: ten pages for one thread hop (measured with pages of 1,000 rows)."""

READ_MAX_BYTES: Final = 1_000_000
"""Event bytes fetched from storage in one go; bounds what one reading pull holds in memory."""

# --- frames and requests -------------------------------------------------------------------------------------------

FRAME_MAX_BYTES: Final = 32 * 1024 * 1024
"""Largest WebSocket message or HTTP body accepted (SPEC 3.5: at least 1 MiB, better 32 MiB; LiveStore #687, #1540)."""

FRAME_HEAD_MAX_BYTES: Final = 14
"""Longest head of a WebSocket frame: two bytes, eight of length, four of mask (RFC 6455, 5.2)."""

FRAGMENTS_MAX: Final = 1_024
"""Frames one fragmented WebSocket message may consist of; no client fragments at all (transcripts)."""

FRAMES_PER_TURN: Final = 256
"""Frames of one connection that are acted upon before others have their turn: some 2 ms of control frames. One read may
bring 10,000 of them; a real client sends one at a time."""

EVENTS_PER_PUSH_MAX: Final = 10_000
"""Events in one push; 4 µs each in which nobody else is served. Published clients send at most 100 (SPEC 3.4)."""

MESSAGES_PER_ARRAY_MAX: Final = 1_024
"""Messages in one JSON array. Each is an object with an answer, however small it is on the wire; no client sends arrays
yet, next takes them (SPEC section 4)."""

REQUEST_ID_MAX_BYTES: Final = 256
"""Longest `requestId` of 0.3, as JSON text. It goes into every broadcast of a push; clients send 21 characters."""

HEADER_VALUES_SHARED: Final = 512
HEADER_VALUE_SHARED_MAX_BYTES: Final = 256
"""Texts of request headers that connections share instead of holding one each, and the longest of them."""

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
"""Commands a store's mailbox holds before it slows its senders down."""

DORMANT_AFTER_S: Final = 30.0
"""Quiet time without followers after which a store leaves memory. Longer than a client's reconnect (SPEC 3.6)."""

CRASH_BACKOFF_FIRST_S: Final = 0.05
CRASH_BACKOFF_MAX_S: Final = 5.0
"""Wait before a crashed actor's next generation, doubling from first to max."""

CRASH_WINDOW_S: Final = 60.0
"""Window over which crashes of one store are counted."""

# --- storage threads -----------------------------------------------------------------------------------------------

GROUP_COMMIT_MAX_OPS: Final = 512
"""Writes of any stores that share one transaction (measured: group commit, 10.8 k batches/s at 200 stores)."""

READER_THREADS: Final = 4
"""Threads and database handles that read history at the same time; two cores are the machine this was sized on."""

STORAGE_BACKOFF_FIRST_S: Final = 0.1
STORAGE_BACKOFF_MAX_S: Final = 5.0
"""Pulls that meet unavailable storage try again after these, doubling (SPEC section 2: never fail a pull for it)."""

HTTP_PULL_STORAGE_PATIENCE_S: Final = 8.0
"""How long an HTTP pull waits for storage to come back; below the reference's 10 s request limit (SPEC 3.7)."""

SQLITE_BUSY_TIMEOUT_MS: Final = 5_000
"""How long SQLite waits for another process's lock (a backup tool, say) before it reports storage unavailable."""

SQLITE_WRITER_CACHE_KIB: Final = 16 * 1024
SQLITE_READER_CACHE_KIB: Final = 4 * 1024
SQLITE_KEEPER_CACHE_KIB: Final = 64
"""Page cache of the writing handle, of each reading one (decision 0003), and of the one that keeps the file open."""

SQLITE_STATEMENTS: Final = 32
SQLITE_WRITER_STATEMENTS: Final = 128
"""Compiled statements that a connection keeps, and the writing one: 52 lengths of the INSERT in each of its two shapes,
and all others. At 1 KiB for each of their rows that is 14 MiB if all of them are ever needed."""

RECORD_MAX_BYTES: Final = 256 * 1024
RECORD_KEY_MAX_BYTES: Final = 2 * STORE_ID_MAX_BYTES
"""Longest record, and longest kind and key of one together: they are in one entry of an index, for which PostgreSQL has
2,704 bytes."""

BACKEND_ID_RANDOM_BYTES: Final = 16
"""Randomness of a store's identity, as much as a UUID has; 22 characters of base64url (reference: nanoid, 21)."""

# --- events without numbers -------------------------------------------------------------------------------------------

APPEND_ID_MAX_CHARACTERS: Final = 255
"""Longest id of an event; 1,020 bytes of UTF-8, which an index of PostgreSQL takes (2,704, nbtree)."""

IDEMPOTENCY_KEY_MAX_CHARACTERS: Final = 240
"""Longest `Idempotency-Key`: an id is made of it and of the number of an event in its request."""

APPEND_ID_RANDOM_BYTES: Final = 12
"""Randomness of an id that the server makes: 16 characters; two alike in one store after some 2**48 events."""

GUEST_MESSAGE_MAX_BYTES: Final = 16 * 1024
"""Largest message of a WebSocket that has not sent its token: one of those, which no header may be larger than."""

API_PAGE: Final = 100
API_PAGE_MAX: Final = 1_000
"""How many events a page of the HTTP API has unless asked for, and its most."""

API_PAGE_BYTES: Final = 1024 * 1024
"""Event bytes after which a page ends and names the next one; a single larger event is given whole."""

API_WAIT_MAX_S: Final = 30
"""Longest wait of a long poll: below the 60 s after which proxies give up."""

API_HEARTBEAT_S: Final = 15.0
"""Silence after which a stream of events sends a comment: below the 30 s of impatient proxies."""

GZIP_MIN_BYTES: Final = 1024
GZIP_LEVEL: Final = 5
"""Answers below are not worth compressing; the level takes a third of the time of the highest for nearly its size."""

LAST_EVENT_ID_MAX_DIGITS: Final = 16
"""Digits of `SEQ_NUM_MAX`; a longer `Last-Event-ID` is the number of no event."""

# --- connections ---------------------------------------------------------------------------------------------------

OUTBOX_MAX_BYTES: Final = 1024 * 1024
"""Bytes queued for one peer above which its live pulls are sent back to the log (invariant 4)."""

OUTBOX_LOW_WATER_BYTES: Final = 256 * 1024
"""A pull that reads the log waits until the outbox holds less than this before it adds the next pages."""

OUTBOX_HARD_MAX_BYTES: Final = 4 * 1024 * 1024
"""Above this, nothing more is read from the peer until it takes what is queued for it."""

OUTBOX_SHARE_BYTES: Final = 64 * 1024
"""Takes the place of the two limits above while clients that do not read hold all of `SENDING_MAX_BYTES`."""

SENDING_MAX_BYTES: Final = 96 * 1024 * 1024
"""Pages of history being read, and bytes that sockets do not take at once, of all clients together (hardening.md)."""

READS_AT_A_TIME: Final = 2
"""Pulls that read a page at the same time, and one only where the page is known to be large: while an event of 30 MB is
read and encoded, it is there four times."""

SHED_AFTER_S: Final = 10.0
SHED_BYTES_PER_S: Final = 64 * 1024
"""While somebody waits for `SENDING_MAX_BYTES`, a client that has had this much time and takes what is written to it
more slowly than this is closed. It comes back; an attacker that reads nothing holds nothing for long."""

RECEIVING_MAX_BYTES: Final = 64 * 1024 * 1024
RECEIVING_LARGE_MAX_BYTES: Final = 64 * 1024 * 1024
"""Messages that are being received and pushes that are not answered, of all clients together: those of up to
`MESSAGE_LARGE_BYTES`, and larger ones, of which two of 32 MiB fit. Who finds no room is not read until there is."""

MESSAGE_LARGE_BYTES: Final = 1024 * 1024
"""Real clients send messages of 900 kB and a little at most (SPEC 3.5)."""

MESSAGE_FREE_BYTES: Final = 16 * 1024
"""A message of up to this size is received without asking for room."""

MESSAGE_LIMIT_S: Final = 60.0
"""From when room was given for a message until it must be there, as for the body of a request."""

PUSHES_UNDER_WAY_MAX_BYTES: Final = 32 * 1024 * 1024
"""Pushes of one connection that are not answered, above which nothing more is read from it. One push of any size leaves
it open for pings; while the server has no room for more, `PUSHES_SHARE_BYTES` must do."""

PUSHES_SHARE_BYTES: Final = 64 * 1024

PUBLICATION_MAX_BYTES: Final = 1024 * 1024
"""A larger batch is not queued for each follower: they read it from the log, which streams."""

MESSAGE_WHOLE_MAX_BYTES: Final = 64 * 1024
"""Items of a page above which a message is sent in parts, so that the page is not copied for each receiver."""

WRITE_SLICE_BYTES: Final = 64 * 1024
"""Bytes handed to the socket at once; a peer that does not take one slice within the stall limit takes nothing."""

VECTOR_MAX: Final = 512
"""Pieces of one vectored write; Linux takes 1,024."""

WRITE_BATCH_BYTES: Final = 256 * 1024
"""Queued messages joined into one write; many frames a system call (measured: 150-190 k deliveries/s)."""

RECEIVE_BYTES: Final = 64 * 1024
"""Bytes asked of the socket at once."""

ARRIVALS_PER_TURN: Final = 64
"""Sockets whose arrivals are acted upon in one turn of one task; about 10 ms of work before others have theirs."""

HANDSHAKES_PER_TURN: Final = 16
"""Heads of requests, and handshakes, that are attended to in one turn of the event loop: about 10 ms. A commit takes
some eight turns, and when everybody comes back at once it must not wait for all of them eight times."""

STALL_LIMIT_S: Final = 60.0
"""Default of `stall_limit_s`: a peer that takes no bytes for this long is closed (invariant 4)."""

HANDSHAKE_LIMIT_S: Final = 10.0
"""Default of `handshake_limit_s`: from connecting to a complete request head (slowloris)."""

REQUEST_BODY_LIMIT_S: Final = 60.0
"""From a complete request head to the complete body."""

UNREAD_BODY_MAX_BYTES: Final = 64 * 1024
"""A body that a refused request brought along is read up to this, so that its connection can be used again."""

REFUSED_BODY_KEPT_BYTES: Final = 16 * 1024
REFUSED_BODY_MAX_BYTES: Final = 1024 * 1024
"""Of a body whose sender may not come in so much is kept, for the ids it wants answered; so much is read, as large as
bodies of real clients are (SPEC 3.5), so that the answer is not lost behind a reset."""

KEEP_ALIVE_S: Final = 75.0
"""Idle time of an HTTP connection between two requests. Above the 60 s of common proxies, which must close first."""

PROBE_AFTER_S: Final = 20.0
"""Silence after which the server sends a WebSocket ping; clients ping every 10 to 30 s by themselves (SPEC 3.6)."""

IDLE_LIMIT_S: Final = 75.0
"""Default of `idle_limit_s`: silence after which a WebSocket is dead; thrice the slowest client's pause (SPEC 5.3)."""

LIVENESS_SWEEP_S: Final = 5.0
"""How often one task looks at the silence of all connections, so that none needs a timer of its own."""

REMINDER_S: Final = 1.0
"""From a connection's first Ping to a Pong that nobody asked for: later than the first, within 5 s (SPEC 3.6)."""

CLOSE_LIMIT_S: Final = 2.0
"""How long a closing WebSocket waits for the peer's close frame before the socket is cut."""

ORPHAN_GRACE_S: Final = 0.5
"""After the sign of an orphaned pull: time for the client to open a live pull before its socket is closed (SPEC 3.6;
"whatever a server does not know it must answer or close, within a second", LiveStore's issue #1365)."""

ORPHAN_QUIET_S: Final = 5.0
"""Age a connection must have before a ping alone counts as such a sign. A new client pings and pulls at once; one that
has come back pings with its old timer, every 10 s, and pulls at once unless it has forgotten its pull (SPEC 3.6)."""

CONTROL_MAX_BYTES: Final = 64 * 1024
"""Pongs queued for a peer above which nothing more is read from it (a ping flood from one that does not read)."""

# --- hooks and shutdown --------------------------------------------------------------------------------------------

HOOK_LIMIT_S: Final = 5.0
"""Default of `hook_limit_s`: a hook that takes longer is cut off. Below the client's 10 s ping timeout (SPEC 3.6)."""

HOOK_THREADS: Final = 256
"""Plain hook functions that run at the same time; high, so that hung ones do not hold up the others."""

DRAIN_LIMIT_S: Final = 10.0
"""Default of `drain_limit_s`: from the first signal until what still runs is cut. Below the 30 s that PaaS allow."""

HEALTH_ANSWER_LIMIT_S: Final = 5.0
"""How long `livesync health` waits. Above a garbage collection of a full server, below the pause
between checks."""

WRITER_HUNG_S: Final = 60.0
"""A database thread that is in one transaction for this long does not come back by itself. Ten times what PostgreSQL
may take (`POSTGRES_ANSWER_LIMIT_S`) or SQLite waits for a lock (`SQLITE_BUSY_TIMEOUT_MS`)."""

# --- configuration -------------------------------------------------------------------------------------------------

UNIX: Final = "unix:"
"""How an address to listen on begins that is the path of a Unix socket."""

FRAME_MAX_LEAST_BYTES: Final = 1024 * 1024
"""Smallest `frame_max_bytes` that may be set: every client sends frames of 900 kB and a little (SPEC 3.5)."""

GC_THRESHOLDS: Final = (10_000, 3, 100)
"""Garbage collector thresholds after start-up. A collection of the middle generation looks at four times the first and
takes 12 ms; of fifty times as many it took 840 ms when ten thousand clients came back. Connections leave it nothing to
do (`Peer.let_go`), so a full collection, which pauses long beside many actors, can be rare."""

# --- identity and fair use -----------------------------------------------------------------------------------------

JWT_SECRET_LEAST_BYTES: Final = 32
"""Shortest secret for HS256: as long as the hash (RFC 7518, 3.2)."""

JWT_LEEWAY_S: Final = 10.0
JWT_LEEWAY_MAX_S: Final = 600.0
"""Default of `jwt_leeway_s`, and the most it may be: clocks kept by NTP differ by less than a second."""

OUTPUT_FLUSH_LIMIT_S: Final = 2.0
"""How long the end waits for the last lines of each output to be written."""

RATE_PRINCIPAL: Final = ("connections=6000/min", "pushes=6000/min", "events=600000/min", "bytes=1000000000/min")
RATE_ADDRESS: Final = ("connections=6000/min", "pushes=60000/min", "events=6000000/min", "bytes=6000000000/min")
"""Defaults of `rate_principal` and `rate_address`: a hundred times what a busy app does, or a big office behind one
address. A 0.4 tab over HTTP makes 18 requests a minute (SPEC 3.7), a leader pushes 50 events a call (section 2)."""

PRINCIPAL_CONNECTIONS_MAX: Final = 1_000
ADDRESS_CONNECTIONS_MAX: Final = 2_000
PRINCIPAL_STORES_MAX: Final = 10_000
"""Defaults of `max_principal_connections`, `max_address_connections` and `max_principal_stores`: well above an office
behind one address, well below what exhausts descriptors (9 KiB an idle connection, measured)."""

PUSH_PATIENCE_S: Final = 5.0
"""A push that is too fast waits up to this before it is refused instead; half a client's ping interval (SPEC 3.6)."""

V3_PUSH_PATIENCE_S: Final = 60.0
"""The same for 0.3, which takes a refusal for a conflict and waits for a broadcast that may not come (SPEC 5.3)."""

CROWDED_CONNECTIONS_MAX: Final = 8
CROWDED_LIMIT_S: Final = 2.0
"""Connections of one address above `max_address_connections` that are still listened to, and for how long: so that a
health check is answered, and whoever else comes is told why not, also behind a proxy that is not configured."""

RETRY_AFTER_MAX_S: Final = 3600
"""Longest `Retry-After` that is sent."""

# --- the control plane -----------------------------------------------------------------------------------------------

ADMIN_PORT: Final = 8100
"""Default of `admin_port`; not next to 8000, where a second server of the machine is likely to stand."""

ADMIN_READER_THREADS: Final = 2
"""Threads and database handles of the control plane's own, so that its reading never takes those of the pulls."""

ADMIN_PAGE_MAX: Final = 1_000
ADMIN_PAGE: Final = 100
"""Most stores, events or connections of one answer, and how many it has unless asked for."""

ADMIN_BODY_MAX_BYTES: Final = 64 * 1024
"""Largest request body of the control plane: a store id, twice, and much room."""

ADMIN_GRACE_S: Final = 1.0
"""From the control plane's end, or a client's, until its connections are cut, whatever they are answering."""

# --- PostgreSQL ----------------------------------------------------------------------------------------------------

SHARED_WRITER_THREADS: Final = 2
"""Writer threads, each with a connection and stores of its own, for a database that other servers use too: one uses the
time in which the other waits for it (decision 0004: 1.2 times as many batches/s at 20 and at 200 stores)."""

POSTGRES_CONNECT_LIMIT_S: Final = 3
"""How long one attempt to connect may take. With `POSTGRES_ANSWER_LIMIT_S` it stays below the 10 s after which a client
takes the server for dead (SPEC 3.6), so that a push is answered before."""

POSTGRES_ANSWER_LIMIT_S: Final = 6.0
"""How long an answer of the database is awaited before its connection is given up (decision 0004)."""

POSTGRES_MIGRATION_LIMIT_S: Final = 3_600.0
"""How long a step of the schema may take: one of them looks at every event (a disk reads some 100 MB a second)."""

POSTGRES_LOCK_LIMIT_MS: Final = 3_000
"""How long a write waits for the row of its store. Shorter than the wait for the answer, so that PostgreSQL itself
gives up first and the outcome is known. Stands in migration 1."""

POSTGRES_BACKOFF_FIRST_S: Final = 0.05
POSTGRES_BACKOFF_MAX_S: Final = 1.0
"""After a failed attempt to connect nobody tries again for this long, doubling: a database that comes back is not met
by a storm, and is noticed within a second."""

POSTGRES_KEEPALIVE_IDLE_S: Final = 5
POSTGRES_KEEPALIVE_INTERVAL_S: Final = 2
POSTGRES_KEEPALIVE_PROBES: Final = 3
POSTGRES_UNSENT_LIMIT_MS: Final = 6_000
"""TCP keepalives, and how long sent bytes may stay without an acknowledgement (tcp_user_timeout): a host that vanished
is noticed after about ten seconds on an idle connection."""

NEWS_CHECK_S: Final = 5.0
"""How often the heads of all running stores are compared with the database although notifications arrive: a server may
die between its commit and its notification."""

NEWS_GATHER_S: Final = 0.002
"""For how long after a notification the next changes gather; told at once is only what comes after a pause."""

NEWS_CHECK_DEAF_S: Final = 0.5
"""The same while no notifications can be received: the latency of news from other servers then."""

DATABASE_WAIT_S: Final = 60.0
"""Default of `database_wait_s`: how long the start waits for a database that cannot be reached yet."""

# --- telemetry -----------------------------------------------------------------------------------------------------

REPEATED_LINES_MAX: Final = 10
REPEATED_LINES_PERIOD_S: Final = 60.0
"""Log lines of one kind that one address may cause in each period; what is more is counted and told in one line. A
real client that is refused comes back every few seconds (SPEC 3.6), an office has more than one."""

# --- webhooks ------------------------------------------------------------------------------------------------------

WEBHOOKS_MAX: Final = 64
"""Webhooks of a server, those of the configuration and those made at run time together."""

WEBHOOK_BATCH: Final = 100
WEBHOOK_BATCH_MAX: Final = 1_000
"""Default and most of the events in one message; as many as one look into the log gives (`READ_MAX_EVENTS`)."""

WEBHOOK_URL_MAX_BYTES: Final = 2_048
WEBHOOK_HEADERS_MAX_BYTES: Final = 8 * 1024
WEBHOOK_PATTERNS_MAX: Final = 64

WEBHOOK_SECRET_BYTES: Final = (24, 64)
"""Random bytes of a secret (Standard Webhooks, "Symmetric")."""

# --- export, import, backup ----------------------------------------------------------------------------------------

ARCHIVE_LINE_MAX_BYTES: Final = 256 * 1024 * 1024
"""Longest line read from an export file: eight times the default of `frame_max_bytes`, twice escaped at worst."""

LOAD_MAX_EVENTS: Final = 2_000
LOAD_MAX_BYTES: Final = 4 * 1024 * 1024
"""Events, and bytes of their texts, that one transaction of an import takes: what an interrupted one loses at most."""

PULL_ANSWER_LIMIT_S: Final = 60.0
"""How long a command waits for the next message of a server that it pulls from."""

# --- the change feed -------------------------------------------------------------------------------------------------

FEED_KEEP_HOURS: Final = 168.0
FEED_KEEP_BYTES: Final = 10 * 1024 * 1024 * 1024
"""How long, and how much, changes are kept for clients that are away, unless set."""

FEED_CLIENT_HOURS: Final = 24.0
"""How long a client of the feed that does not come back is remembered, unless set; as in the original."""
