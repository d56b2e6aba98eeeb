-- How much waits for each device that messages wait for.
CREATE TABLE to_device_queues (
    user_id   TEXT NOT NULL,
    device_id TEXT NOT NULL,
    messages  BIGINT NOT NULL,
    bytes     BIGINT NOT NULL,
    PRIMARY KEY (user_id, device_id)
) /* WITHOUT ROWID */;
INSERT INTO to_device_queues (user_id, device_id, messages, bytes)
    SELECT user_id, device_id, COUNT(*), SUM(OCTET_LENGTH(sender) + OCTET_LENGTH(type) + OCTET_LENGTH(content))
    FROM to_device GROUP BY user_id, device_id;
