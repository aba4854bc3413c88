"""The SQL of migrations 2 and 3: what PostgreSQL tells of a store without a walk through its events, who pushed them.

Owns these statements; `tables` puts them in order.
"""

from typing import Final

# Adding a column that is NULL rewrites nothing. `text_bytes` stays NULL, whatever is added to it, until step 3 counts.
TEXT_BYTES: Final = "ALTER TABLE livesync_7_stores ADD COLUMN text_bytes bigint, ADD COLUMN last_push_at timestamptz"
TEXT_BYTES_OF_NEW: Final = "ALTER TABLE livesync_7_stores ALTER COLUMN text_bytes SET DEFAULT 0"
PUSHED_BY: Final = "ALTER TABLE livesync_7_events ADD COLUMN pushed_by text"

# An array of no users at all names nobody: unnest() fills what is missing with NULLs.
APPEND_WITH_USER: Final = """
CREATE FUNCTION livesync_7_append(
    store_ids bytea[], log_ids bigint[], backend_ids text[], heads bigint[], event_counts bigint[],
    new_heads bigint[], new_event_counts bigint[], created_ats text[], added_bytes bigint[],
    positions bigint[], seq_nums bigint[], parent_seq_nums bigint[], ordinals bigint[], events text[], users text[]
) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
DECLARE
    appended bigint[];
BEGIN
    PERFORM livesync_7_durably();
    IF cardinality(log_ids) > 1 THEN
        PERFORM 1 FROM livesync_7_stores AS stores
            WHERE stores.log_id = ANY (log_ids) ORDER BY stores.log_id FOR NO KEY UPDATE;
    END IF;
    WITH moved AS (
        UPDATE livesync_7_stores AS stores SET head = wanted.new_head, event_count = wanted.new_event_count,
            text_bytes = stores.text_bytes + wanted.added_bytes,
            last_push_at = CAST(wanted.created_at AS timestamptz)
        FROM unnest(store_ids, log_ids, backend_ids, heads, event_counts, new_heads, new_event_counts, created_ats,
                added_bytes)
            WITH ORDINALITY AS wanted (
                store_id, log_id, backend_id, head, event_count, new_head, new_event_count, created_at, added_bytes,
                position)
        WHERE (stores.log_id, stores.store_id, stores.backend_id, stores.head, stores.event_count)
            = (wanted.log_id, wanted.store_id, wanted.backend_id, wanted.head, wanted.event_count)
        RETURNING wanted.position
    )
    SELECT array_agg(moved.position) INTO appended FROM moved;
    INSERT INTO livesync_7_events (log_id, seq_num, parent_seq_num, ordinal, created_at, event, pushed_by)
        SELECT wanted.log_id, added.seq_num, added.parent_seq_num, added.ordinal,
            CAST(wanted.created_at AS timestamptz), added.event, added.pushed_by
        FROM unnest(positions, seq_nums, parent_seq_nums, ordinals, events, users)
                AS added (position, seq_num, parent_seq_num, ordinal, event, pushed_by)
            JOIN unnest(log_ids, created_ats) WITH ORDINALITY AS wanted (log_id, created_at, position)
                ON wanted.position = added.position
        WHERE added.position = ANY (appended);
    RETURN QUERY SELECT unnest(appended);
END $$"""

# Servers of the version before go on calling this one; the post half takes it away.
APPEND_OF_BEFORE: Final = """
CREATE OR REPLACE FUNCTION livesync_7_append(
    store_ids bytea[], log_ids bigint[], backend_ids text[], heads bigint[], event_counts bigint[],
    new_heads bigint[], new_event_counts bigint[], created_ats text[],
    positions bigint[], seq_nums bigint[], parent_seq_nums bigint[], ordinals bigint[], events text[]
) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT * FROM livesync_7_append(
        store_ids, log_ids, backend_ids, heads, event_counts, new_heads, new_event_counts, created_ats,
        ARRAY(
            SELECT sum(octet_length(added.event)) FROM unnest(positions, events) AS added (position, event)
            GROUP BY added.position ORDER BY added.position
        ),
        positions, seq_nums, parent_seq_nums, ordinals, events, CAST(ARRAY[] AS text[]));
END $$"""
NO_APPEND_OF_BEFORE: Final = """
DROP FUNCTION livesync_7_append(
    bytea[], bigint[], text[], bigint[], bigint[], bigint[], bigint[], text[],
    bigint[], bigint[], bigint[], bigint[], text[])"""

RESET_SUMMARY: Final = """
CREATE OR REPLACE FUNCTION livesync_7_reset(reset_store_id bytea, new_backend_id text) RETURNS SETOF livesync_7_stores
LANGUAGE plpgsql AS $$
DECLARE
    replaced livesync_7_stores;
BEGIN
    PERFORM livesync_7_durably();
    RETURN QUERY INSERT INTO livesync_7_stores (store_id, backend_id) VALUES (reset_store_id, new_backend_id)
        ON CONFLICT (store_id) DO NOTHING RETURNING *;
    IF NOT FOUND THEN
        SELECT * INTO STRICT replaced FROM livesync_7_stores AS stores
            WHERE stores.store_id = reset_store_id FOR UPDATE;
        INSERT INTO livesync_7_replaced (log_id, store_id, backend_id, head, event_count, created_at)
            VALUES (replaced.log_id, replaced.store_id, replaced.backend_id, replaced.head, replaced.event_count,
                replaced.created_at);
        RETURN QUERY UPDATE livesync_7_stores AS stores
            SET log_id = DEFAULT, backend_id = new_backend_id, head = DEFAULT, event_count = DEFAULT,
                created_at = DEFAULT, text_bytes = DEFAULT, last_push_at = DEFAULT
            WHERE stores.store_id = reset_store_id RETURNING *;
    END IF;
END $$"""

_COUNTED: Final = """
    text_bytes = (
        SELECT coalesce(sum(octet_length(events.event)), 0) FROM livesync_7_events AS events
        WHERE events.log_id = stores.log_id
    ),
    last_push_at = (
        SELECT events.created_at FROM livesync_7_events AS events
        WHERE events.log_id = stores.log_id ORDER BY events.seq_num DESC LIMIT 1
    )"""

# What is chosen is locked by a statement of its own, so that the counting sees all that was appended before. A store
# whose call began before step 2 is not counted by that call; it is found again by what follows.
COUNT_BATCH: Final = (
    "SELECT store_id FROM livesync_7_stores WHERE text_bytes IS NULL ORDER BY store_id LIMIT %s FOR UPDATE",
    f"UPDATE livesync_7_stores AS stores SET {_COUNTED} WHERE stores.store_id = ANY (%s)",  # noqa: S608 - ours
)

# A call that began before step 2 goes on as it began, and does not count. The lock waits for the last of them; whoever
# comes later counts. Nearly all stores have been counted by then, so it is held for a moment; the few that such a call
# has appended to since are those whose last push is not the one that is noted.
COUNT: Final = (
    "LOCK TABLE livesync_7_stores IN EXCLUSIVE MODE",
    f"""
UPDATE livesync_7_stores AS stores SET {_COUNTED}
WHERE stores.text_bytes IS NULL OR stores.last_push_at IS DISTINCT FROM (
    SELECT events.created_at FROM livesync_7_events AS events
    WHERE events.log_id = stores.log_id ORDER BY events.seq_num DESC LIMIT 1
)""",  # noqa: S608 - ours
)
