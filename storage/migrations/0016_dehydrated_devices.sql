-- The devices that wait, dehydrated, for the next login of their users (MSC3814).
CREATE TABLE dehydrated_devices (
    user_id     TEXT PRIMARY KEY,
    device_id   TEXT NOT NULL,
    device_data TEXT NOT NULL                -- JSON object
);
