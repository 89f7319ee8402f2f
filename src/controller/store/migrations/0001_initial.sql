-- One text for SQLite and PostgreSQL: BIGINT for numbers, booleans and times (milliseconds since 1970), TEXT for
-- names, digests, keys (base64) and JSON, BYTEA for bytes (SQLite keeps bytes as bytes whatever the name).

CREATE TABLE fleet (
    only_row BIGINT PRIMARY KEY CHECK (only_row = 1),
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    created BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    -- Changing it is how a push takes its turn: the row stays locked until the end of the transaction.
    pushes BIGINT NOT NULL
);

CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- The last number given out. The row stays locked until the end of the transaction, so numbers have no gaps.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('audit', 0);

CREATE TABLE join_tokens (
    id TEXT PRIMARY KEY,
    server TEXT NOT NULL,
    public_key TEXT NOT NULL,
    created BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires BIGINT NOT NULL,
    revoked BIGINT,
    redeemed_by TEXT,
    redeemed_at BIGINT
);
CREATE INDEX join_tokens_by_server ON join_tokens (server);

CREATE TABLE servers (
    name TEXT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    identity_key TEXT NOT NULL,
    sealing_key TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('enrolled', 'banned', 'evicted')),
    enrolled_at BIGINT NOT NULL,
    certificate_serial TEXT,
    certificate_not_after BIGINT,
    recovery_sequence BIGINT NOT NULL,
    last_seen BIGINT,
    connected_to TEXT,
    position TEXT,
    agent_version TEXT,
    -- The highest sequence of its outbox below which nothing is missing.
    acknowledged BIGINT NOT NULL
);
CREATE INDEX servers_by_identity ON servers (identity_key);

-- Processes that hold agents' connections.
CREATE TABLE controllers (
    instance TEXT PRIMARY KEY,
    alive_at BIGINT NOT NULL
);

CREATE TABLE documents (
    server TEXT NOT NULL REFERENCES servers (name),
    epoch BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    -- 1, 2, 3 … of this server: what "the newest twenty" counts.
    ordinal BIGINT NOT NULL,
    text TEXT NOT NULL,
    digest TEXT NOT NULL,
    envelope BYTEA NOT NULL,
    revision BIGINT,
    created BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (server, epoch, generation)
);
CREATE UNIQUE INDEX documents_by_ordinal ON documents (server, ordinal);

CREATE TABLE revisions (
    number BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    message TEXT NOT NULL,
    files TEXT NOT NULL
);

CREATE TABLE reports (
    server TEXT PRIMARY KEY REFERENCES servers (name),
    server_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL
);

-- What came out of the agents' outboxes: a report (its body is in `reports`, if it is the last), an alarm (its code
-- is the outcome), or an event (body only).
CREATE TABLE items (
    server_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    server TEXT NOT NULL REFERENCES servers (name),
    at BIGINT NOT NULL,
    generation BIGINT,
    outcome TEXT,
    body TEXT,
    PRIMARY KEY (server_id, sequence)
);
CREATE INDEX items_by_server ON items (server, at);

CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    digest TEXT NOT NULL UNIQUE,
    created BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    revoked BIGINT,
    last_used BIGINT
);

CREATE TABLE audit (
    number BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    detail TEXT NOT NULL
);

-- One open alarm per server and code; `server` is empty for the fleet as a whole.
CREATE TABLE alarms (
    server TEXT NOT NULL,
    code TEXT NOT NULL,
    text TEXT NOT NULL,
    at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    times BIGINT NOT NULL,
    cleared BIGINT
);
CREATE UNIQUE INDEX alarms_open ON alarms (server, code) WHERE cleared IS NULL;
