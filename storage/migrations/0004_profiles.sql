-- Users' profiles, a row for each field; value is JSON.
CREATE TABLE profiles (
    user_id TEXT NOT NULL,
    field   TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (user_id, field)
);
