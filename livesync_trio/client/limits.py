"""The limits of the sync client: the unit is in the name, the source beside it."""

from typing import Final

CLIENT_PING_EVERY_S: Final = 25.0
CLIENT_PONG_LIMIT_S: Final = 5.0
"""How often a connection is asked for a sign of life, and how long it has for one (SPEC 5.3 has the same numbers)."""

CLIENT_CONNECT_LIMIT_S: Final = 10.0
"""How long one attempt to connect may take, from the look-up of the name to the end of the handshake."""

CLIENT_CLOSE_LIMIT_S: Final = 0.5
"""How long a close frame is waited for; the reference never sends one (SPEC section 7)."""

CLIENT_BACKOFF_FIRST_S: Final = 1.0
CLIENT_BACKOFF_MAX_S: Final = 30.0
CLIENT_BACKOFF_JITTER: Final = 0.2
"""Pauses between attempts to connect double, and are spread by this share, as those of the real client (SPEC 3.1)."""

CLIENT_REFUSALS_MAX: Final = 3
"""Refusals in a row, each of another payload, after which a client does not come back by itself."""

CLIENT_ANSWER_LIMIT_S: Final = 60.0
"""How long the next bytes of an HTTP answer are waited for."""

CLIENT_POLL_EVERY_S: Final = 5.0
"""Pause between two polls of a live pull over HTTP, as the real client's (SPEC 3.7)."""

CLIENT_BUFFER_BYTES: Final = 2 * 1024 * 1024
"""Pages of one pull that wait for a slow reader: two full ones (SPEC 3.5), or a single larger one."""

CLIENT_STASH_EVENTS: Final = 1_000
CLIENT_STASH_BYTES: Final = 4 * 1024 * 1024
"""Events that are kept because their predecessors have not come yet; beyond that they are pulled again."""

CLIENT_STASH_WAIT_S: Final = 10.0
"""How long those predecessors are waited for before the log is asked for them."""

CLIENT_RECENT_EVENTS: Final = 256
"""Events by which a log without identity (0.3) is known again."""

CLIENT_PUSH_MAX_EVENTS: Final = 100
CLIENT_PUSH_MAX_BYTES: Final = 899_000
"""Events, and bytes of their texts, in one push: the most that the real client sends, and that the reference can give
back on a page (SPEC 3.5 and section 7)."""

CLIENT_PUSH_ATTEMPTS: Final = 8
"""Lost answers to one push after which a client gives up: perhaps it is that push that ends the connection."""

CLIENT_MESSAGE_MAX_BYTES: Final = 256 * 1024 * 1024
"""Largest message that a client takes: eight times the default of `frame_max_bytes`."""
