"""The SQL of migration 7: the append of before with another body, whose plans are kept.

Owns this statement; `tables` puts it in order. Name, arguments and answer are those of migration 5, so that servers of
the version before call it as well, and gain by it.
"""

from typing import Final

from livesync_trio.limits import POSTGRES_LOCK_LIMIT_MS

# Most calls are one append. Of arrays PostgreSQL believes that a plan for those of the moment is cheaper than one that
# is kept, and planned each statement anew at each call. For one append no join is needed, nor a lock before its own;
# two settings, which hold until the call ends, have its plans kept, and found by index, however small the table was
# when they were made. For several such plans would be bad ones: there the whole index of a small table is cheapest.
# What is set is assigned to a variable, since an expression costs a tenth of a statement.
APPEND: Final = f"""
CREATE OR REPLACE FUNCTION livesync_7_append(
    store_ids bytea[], log_ids bigint[], backend_ids text[], heads bigint[], event_counts bigint[],
    new_heads bigint[], new_event_counts bigint[], created_ats text[], added_bytes bigint[],
    positions bigint[], seq_nums bigint[], parent_seq_nums bigint[], ordinals bigint[], events text[], users text[],
    append_ids text[]
) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
DECLARE
    appended bigint[];
    setting text;
BEGIN
    setting := set_config('lock_timeout', '{POSTGRES_LOCK_LIMIT_MS}', true);
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        setting := set_config('synchronous_commit', 'on', true);
    END IF;
    IF cardinality(log_ids) = 1 THEN
        setting := set_config('plan_cache_mode', 'force_generic_plan', true);
        setting := set_config('enable_seqscan', 'off', true);
        UPDATE livesync_7_stores AS stores SET head = new_heads[1], event_count = new_event_counts[1],
            text_bytes = stores.text_bytes + added_bytes[1], last_push_at = CAST(created_ats[1] AS timestamptz)
        WHERE stores.log_id = log_ids[1] AND stores.store_id = store_ids[1] AND stores.backend_id = backend_ids[1]
            AND stores.head = heads[1] AND stores.event_count = event_counts[1];
        IF NOT FOUND THEN
            RETURN;
        END IF;
        INSERT INTO livesync_7_events (
                log_id, seq_num, parent_seq_num, ordinal, created_at, event, pushed_by, append_id)
            SELECT log_ids[1], added.seq_num, added.parent_seq_num, added.ordinal,
                CAST(created_ats[1] AS timestamptz), added.event, added.pushed_by, added.append_id
            FROM unnest(seq_nums, parent_seq_nums, ordinals, events, users, append_ids)
                AS added (seq_num, parent_seq_num, ordinal, event, pushed_by, append_id);
        RETURN NEXT 1;
        RETURN;
    END IF;
    PERFORM 1 FROM livesync_7_stores AS stores
        WHERE stores.log_id = ANY (log_ids) ORDER BY stores.log_id FOR NO KEY UPDATE;
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
END $$"""  # noqa: S608 - ours
