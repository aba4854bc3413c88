"""The SQL of migration 5: ids of events that were appended without a number, each one's own in its log for ever.

Owns these statements; `tables` puts them in order. Ids stand beside the events, and once more in a small table that
keeps them apart: a unique index of the events themselves would hold up every push while it is built from a long table.
"""

from typing import Final

APPEND_ID: Final = "ALTER TABLE livesync_7_events ADD COLUMN append_id text"

IDS: Final = """
CREATE TABLE livesync_7_append_ids (
    log_id bigint NOT NULL,
    append_id text COLLATE "C" NOT NULL,
    seq_num bigint NOT NULL,
    PRIMARY KEY (log_id, append_id)
)"""

# Events come by the server's function and by that of an import, and go when what a reset replaced is cleared.
FOLLOW_EVENTS: Final = (
    """
CREATE FUNCTION livesync_7_follow_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO livesync_7_append_ids VALUES (NEW.log_id, NEW.append_id, NEW.seq_num);
    ELSE
        DELETE FROM livesync_7_append_ids AS ids WHERE (ids.log_id, ids.append_id) = (OLD.log_id, OLD.append_id);
    END IF;
    RETURN NULL;
END $$""",
    """
CREATE TRIGGER livesync_7_id_comes AFTER INSERT ON livesync_7_events
FOR EACH ROW WHEN (NEW.append_id IS NOT NULL) EXECUTE FUNCTION livesync_7_follow_event()""",
    """
CREATE TRIGGER livesync_7_id_goes AFTER DELETE ON livesync_7_events
FOR EACH ROW WHEN (OLD.append_id IS NOT NULL) EXECUTE FUNCTION livesync_7_follow_event()""",
)

# Beside the one of before, which servers of the version before go on calling; the post half takes that away.
APPEND_WITH_ID: Final = """
CREATE FUNCTION livesync_7_append(
    store_ids bytea[], log_ids bigint[], backend_ids text[], heads bigint[], event_counts bigint[],
    new_heads bigint[], new_event_counts bigint[], created_ats text[], added_bytes bigint[],
    positions bigint[], seq_nums bigint[], parent_seq_nums bigint[], ordinals bigint[], events text[], users text[],
    append_ids text[]
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
    INSERT INTO livesync_7_events (
            log_id, seq_num, parent_seq_num, ordinal, created_at, event, pushed_by, append_id)
        SELECT wanted.log_id, added.seq_num, added.parent_seq_num, added.ordinal,
            CAST(wanted.created_at AS timestamptz), added.event, added.pushed_by, added.append_id
        FROM unnest(positions, seq_nums, parent_seq_nums, ordinals, events, users, append_ids)
                AS added (position, seq_num, parent_seq_num, ordinal, event, pushed_by, append_id)
            JOIN unnest(log_ids, created_ats) WITH ORDINALITY AS wanted (log_id, created_at, position)
                ON wanted.position = added.position
        WHERE added.position = ANY (appended);
    RETURN QUERY SELECT unnest(appended);
END $$"""

NO_APPEND_WITHOUT_ID: Final = """
DROP FUNCTION livesync_7_append(
    bytea[], bigint[], text[], bigint[], bigint[], bigint[], bigint[], text[], bigint[],
    bigint[], bigint[], bigint[], bigint[], text[], text[])"""
