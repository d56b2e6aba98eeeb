-- Accounts of this server, with their devices and tokens. A token is stored as
-- its SHA-256 only: reading this database gives nobody a way in.

CREATE TABLE users (
    user_id     TEXT PRIMARY KEY,
    password    TEXT,                        -- PHC string; null: no login by password
    created_ts  BIGINT NOT NULL,
    guest       BOOLEAN NOT NULL,
    admin       BOOLEAN NOT NULL,
    deactivated BOOLEAN NOT NULL DEFAULT FALSE,
    erased      BOOLEAN NOT NULL DEFAULT FALSE,
    leaving     BOOLEAN NOT NULL DEFAULT FALSE, -- deactivated, and still to be taken out of rooms
    locked      BOOLEAN NOT NULL DEFAULT FALSE,
    suspended   BOOLEAN NOT NULL DEFAULT FALSE,
    appservice  TEXT,                        -- id of the application service that made it
    user_type   TEXT                         -- as the admin API names it: bot, support
);
CREATE INDEX users_leaving ON users (user_id) WHERE leaving;

CREATE TABLE devices (
    user_id      TEXT NOT NULL,
    device_id    TEXT NOT NULL,
    display_name TEXT,
    created_ts   BIGINT NOT NULL,
    seen_ts      BIGINT NOT NULL,            -- up to a few minutes old, as the two below
    seen_ip      TEXT NOT NULL,
    seen_agent   TEXT NOT NULL,
    PRIMARY KEY (user_id, device_id)
);

-- family and generation tie the access and refresh tokens of one login together:
-- each refresh makes the next generation, whose first use ends the one before.
CREATE TABLE access_tokens (
    hash       BYTEA PRIMARY KEY,
    user_id    TEXT NOT NULL,
    device_id  TEXT NOT NULL,
    family     BYTEA,                        -- null: of a client that cannot refresh
    generation BIGINT NOT NULL,
    used       BOOLEAN NOT NULL,
    created_ts BIGINT NOT NULL,
    expires_ts BIGINT NOT NULL               -- 0: never
);
CREATE INDEX access_tokens_device ON access_tokens (user_id, device_id);

CREATE TABLE refresh_tokens (
    hash       BYTEA PRIMARY KEY,
    user_id    TEXT NOT NULL,
    device_id  TEXT NOT NULL,
    family     BYTEA NOT NULL,
    generation BIGINT NOT NULL,
    created_ts BIGINT NOT NULL
);
CREATE INDEX refresh_tokens_device ON refresh_tokens (user_id, device_id);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family);

-- Tokens that are good for one purpose: m.login.token, OpenID.
CREATE TABLE purpose_tokens (
    hash       BYTEA PRIMARY KEY,
    purpose    TEXT NOT NULL,                -- login, openid
    user_id    TEXT NOT NULL,
    expires_ts BIGINT NOT NULL
);
CREATE INDEX purpose_tokens_user ON purpose_tokens (user_id);
CREATE INDEX purpose_tokens_expires ON purpose_tokens (expires_ts);

CREATE TABLE registration_tokens (
    token        TEXT PRIMARY KEY,
    uses_allowed BIGINT,                     -- null: any number
    completed    BIGINT NOT NULL,
    expires_ts   BIGINT                      -- null: never
);

-- Which documents a person has accepted.
CREATE TABLE accepted_terms (
    user_id     TEXT NOT NULL,
    name        TEXT NOT NULL,
    version     TEXT NOT NULL,
    accepted_ts BIGINT NOT NULL,
    PRIMARY KEY (user_id, name, version)
);
