-- Files that users share. The files themselves lie in a directory, named by their hashes.

-- What mxc:// URIs stand for.
CREATE TABLE media (
    server       TEXT NOT NULL,              -- '' for this server
    media_id     TEXT NOT NULL,
    user_id      TEXT NOT NULL,              -- of this server, who uploads it; '' for other servers
    created_ts   BIGINT NOT NULL,            -- ms
    expires_ts   BIGINT NOT NULL,            -- ms: until then it has to be uploaded; 0: it was
    used_ts      BIGINT NOT NULL,            -- ms: for other servers, about when it was last wanted
    hash         TEXT NOT NULL,              -- of the file, SHA-256 in hex; '' while there is none
    size         BIGINT NOT NULL,            -- of the file, in bytes
    thumbnails   BIGINT NOT NULL DEFAULT 0,  -- of the thumbnails made for it, in bytes
    content_type TEXT NOT NULL,
    name         TEXT NOT NULL,              -- '' for none
    frozen       BOOLEAN NOT NULL,           -- it is not given to who does not say who they are
    PRIMARY KEY (server, media_id)
);
CREATE INDEX media_hash ON media (hash) WHERE hash <> '';
CREATE INDEX media_pending ON media (user_id, expires_ts) WHERE hash = '';
CREATE INDEX media_used ON media (used_ts) WHERE server <> '';

-- What users of this server have uploaded.
CREATE TABLE media_users (
    user_id TEXT PRIMARY KEY,
    files   BIGINT NOT NULL,
    bytes   BIGINT NOT NULL
);

-- Thumbnails by the hash of their image. One of width 0 says that there can be none.
CREATE TABLE thumbnails (
    source       TEXT NOT NULL,
    width        BIGINT NOT NULL,
    height       BIGINT NOT NULL,
    method       TEXT NOT NULL,              -- crop or scale
    hash         TEXT NOT NULL,              -- of its file; that of the image itself if it is small
    size         BIGINT NOT NULL,            -- bytes
    content_type TEXT NOT NULL,
    PRIMARY KEY (source, width, height, method)
);
CREATE INDEX thumbnails_hash ON thumbnails (hash) WHERE hash <> '';
