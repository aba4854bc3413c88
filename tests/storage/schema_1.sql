-- A database as version 1 of the schema left it, dumped by the `sqlite3` shell's own means (`Connection.iterdump`).
BEGIN TRANSACTION;
CREATE TABLE livesync_7_events (
        log_id INTEGER NOT NULL,
        seq_num INTEGER NOT NULL,
        parent_seq_num INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        event TEXT NOT NULL,
        PRIMARY KEY (log_id, seq_num)
    );
INSERT INTO "livesync_7_events" VALUES(1,1,0,1,101,'2026-11-20T12:34:56.789Z','{"name":"todoAdded","args":"ä😀\u0000","seqNum":1,"parentSeqNum":0,"clientId":"c","sessionId":"s"}');
INSERT INTO "livesync_7_events" VALUES(1,2,1,2,101,'2026-11-20T12:34:56.789Z','{"name":"todoAdded","args":"ä😀\u0000","seqNum":2,"parentSeqNum":1,"clientId":"c","sessionId":"s"}');
INSERT INTO "livesync_7_events" VALUES(1,5,2,3,101,'2026-11-20T12:34:56.789Z','{"name":"todoAdded","args":"ä😀\u0000","seqNum":5,"parentSeqNum":2,"clientId":"c","sessionId":"s"}');
INSERT INTO "livesync_7_events" VALUES(1,6,5,4,101,'2026-11-20T12:34:57.000Z','{"name":"todoAdded","args":[1.0,-0,1e400],"seqNum":6,"parentSeqNum":5,"clientId":"c","sessionId":"s"}');
INSERT INTO "livesync_7_events" VALUES(1,7,6,5,101,'2026-11-20T12:34:57.000Z','{"name":"todoAdded","args":[1.0,-0,1e400],"seqNum":7,"parentSeqNum":6,"clientId":"c","sessionId":"s"}');
INSERT INTO "livesync_7_events" VALUES(3,1,0,1,91,'2026-11-20T12:34:56.789Z','{"name":"todoAdded","args":null,"seqNum":1,"parentSeqNum":0,"clientId":"c","sessionId":"s"}');
INSERT INTO "livesync_7_events" VALUES(4,1,0,1,91,'2026-11-20T12:34:56.789Z','{"name":"todoAdded","args":null,"seqNum":1,"parentSeqNum":0,"clientId":"c","sessionId":"s"}');
INSERT INTO "livesync_7_events" VALUES(4,2,1,2,91,'2026-11-20T12:34:56.789Z','{"name":"todoAdded","args":null,"seqNum":2,"parentSeqNum":1,"clientId":"c","sessionId":"s"}');
INSERT INTO "livesync_7_events" VALUES(4,3,2,3,91,'2026-11-20T12:34:56.789Z','{"name":"todoAdded","args":null,"seqNum":3,"parentSeqNum":2,"clientId":"c","sessionId":"s"}');
INSERT INTO "livesync_7_events" VALUES(5,1,0,1,91,'2026-11-20T12:34:56.789Z','{"name":"todoAdded","args":null,"seqNum":1,"parentSeqNum":0,"clientId":"c","sessionId":"s"}');
CREATE TABLE livesync_7_replaced (
        log_id INTEGER PRIMARY KEY,
        store_id TEXT NOT NULL,
        backend_id TEXT NOT NULL,
        head INTEGER NOT NULL,
        event_count INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        replaced_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    );
INSERT INTO "livesync_7_replaced" VALUES(4,'replaced','4EA1ZoNNQGAhUYTdEaXH3g',3,3,'2026-11-20T16:54:35.504Z','2026-11-20T16:54:35.524Z');
CREATE TABLE livesync_7_stores (
        log_id INTEGER PRIMARY KEY AUTOINCREMENT,
        store_id TEXT NOT NULL UNIQUE,
        backend_id TEXT NOT NULL,
        head INTEGER NOT NULL DEFAULT 0,
        event_count INTEGER NOT NULL DEFAULT 0,
        created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    );
INSERT INTO "livesync_7_stores" VALUES(1,'old','H0GFXAMiH4mJh43lWZdCaQ',7,5,'2026-11-20T16:54:35.448Z');
INSERT INTO "livesync_7_stores" VALUES(2,'empty','C05iBmRAdb2w_0ITDScIpA',0,0,'2026-11-20T16:54:35.482Z');
INSERT INTO "livesync_7_stores" VALUES(3,'a b','ndteFY_qXn2ZK_ZAhZwDrQ',1,1,'2026-11-20T16:54:35.492Z');
INSERT INTO "livesync_7_stores" VALUES(5,'replaced','Z-LuotJ_ZAsG3GzbiNwGhA',1,1,'2026-11-20T16:54:35.524Z');
CREATE TABLE livesync_migrations (
        format INTEGER NOT NULL,
        number INTEGER NOT NULL,
        purpose TEXT NOT NULL,
        applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
        PRIMARY KEY (format, number)
    );
INSERT INTO "livesync_migrations" VALUES(7,1,'stores, their events, and logs that a reset replaced','2026-11-20T16:54:35.424Z');
CREATE TRIGGER livesync_7_event_continues_head BEFORE INSERT ON livesync_7_events
    BEGIN
        UPDATE livesync_7_stores SET head = NEW.seq_num, event_count = NEW.ordinal
            WHERE log_id = NEW.log_id AND head = NEW.parent_seq_num AND event_count = NEW.ordinal - 1;
        SELECT RAISE(ABORT, 'the event does not continue the head of this log') WHERE changes() <> 1;
    END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('livesync_7_stores',5);
COMMIT;
