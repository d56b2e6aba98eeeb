-- Cross-signing keys of users of this server, and of those of others whose devices are kept.
CREATE TABLE cross_signing_keys (
    user_id TEXT NOT NULL,
    usage   TEXT NOT NULL,                   -- master, self_signing, user_signing
    key_id  TEXT NOT NULL,                   -- the public key, in base64
    key     TEXT NOT NULL,                   -- JSON; without signatures for users of this server
    PRIMARY KEY (user_id, usage)
);

-- Signatures that users of this server have made of keys of devices and users. key_id is the
-- id of a device or a public key.
CREATE TABLE key_signatures (
    user_id    TEXT NOT NULL,
    key_id     TEXT NOT NULL,
    signer     TEXT NOT NULL,
    signer_key TEXT NOT NULL,                -- as ed25519:ABC
    signature  TEXT NOT NULL,
    pos        BIGINT NOT NULL,
    PRIMARY KEY (user_id, key_id, signer, signer_key)
);
CREATE INDEX key_signatures_signer ON key_signatures (signer, pos);
