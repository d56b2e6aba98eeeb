package storage

import "context"

// Media is what an mxc:// URI stands for.
type Media struct {
	Server string // "" for this server
	ID     string
	// UserID is the user of this server who uploads it; "" for other servers.
	UserID  string
	Created int64 // ms
	// Expires is until when (ms) it has to be uploaded; 0 when it was.
	Expires int64
	// Used is, for other servers, about when (ms) it was last wanted.
	Used int64
	// Hash names the file, SHA-256 in hex; "" while there is none.
	Hash        string
	Size        int64 // of the file, in bytes
	ContentType string
	Name        string // "" for none
	// Frozen is what is not given to who does not say who they are.
	Frozen bool
}

// Thumbnail is a smaller form of an image.
type Thumbnail struct {
	Source        string // the hash of the image
	Width, Height int
	Method        string // crop or scale
	Hash          string // of its file; that of the image itself if it is small
	Size          int64  // bytes
	ContentType   string
}

const mediaSelect = `SELECT server, media_id, user_id, created_ts, expires_ts, used_ts, hash, size, content_type, name, frozen FROM media `

func scanMedia(row scanner, m *Media) error {
	return row.Scan(&m.Server, &m.ID, &m.UserID, &m.Created, &m.Expires, &m.Used, &m.Hash, &m.Size, &m.ContentType, &m.Name, &m.Frozen)
}

// Media finds what a URI stands for. [ErrNotFound]: it is not known here.
func (q *Reader) Media(ctx context.Context, server, id string) (Media, error) {
	return selectOne(ctx, q, mediaSelect+`WHERE server = $1 AND media_id = $2`, scanMedia, server, id)
}

// InsertMedia stores what a new URI stands for. [ErrExists]: it is known already.
func (tx *Tx) InsertMedia(ctx context.Context, m *Media) error {
	return tx.exec(ctx, `INSERT INTO media (server, media_id, user_id, created_ts, expires_ts, used_ts, hash, size, content_type, name, frozen)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		m.Server, m.ID, m.UserID, m.Created, m.Expires, m.Used, m.Hash, m.Size, m.ContentType, m.Name, m.Frozen)
}

// ReplaceMedia stores what was fetched from another server, in place of what there may be.
func (tx *Tx) ReplaceMedia(ctx context.Context, m *Media) error {
	if err := tx.exec(ctx, `DELETE FROM media WHERE server = $1 AND media_id = $2`, m.Server, m.ID); err != nil {
		return err
	}
	return tx.InsertMedia(ctx, m)
}

// FillMedia gives a URI of this server, which its user has made before, the file of m.
// [ErrNotFound]: there is no such URI that waits for its file at this time (ms).
func (tx *Tx) FillMedia(ctx context.Context, m *Media, now int64) error {
	return tx.execOne(ctx, `UPDATE media SET hash = $1, size = $2, content_type = $3, name = $4, frozen = $5, expires_ts = 0
		WHERE server = '' AND media_id = $6 AND user_id = $7 AND hash = '' AND expires_ts > $8`,
		m.Hash, m.Size, m.ContentType, m.Name, m.Frozen, m.ID, m.UserID, now)
}

// UseMedia notes when (ms) something of another server was last wanted.
func (tx *Tx) UseMedia(ctx context.Context, server, id string, ts int64) error {
	return tx.exec(ctx, `UPDATE media SET used_ts = $1 WHERE server = $2 AND media_id = $3`, ts, server, id)
}

// Uploaded is how many files a user has uploaded, and how many bytes.
func (q *Reader) Uploaded(ctx context.Context, userID string) (files, bytes int64, err error) {
	type sums struct{ files, bytes int64 }
	found, err := selectAll(ctx, q, `SELECT files, bytes FROM media_users WHERE user_id = $1`, func(row scanner, s *sums) error {
		return row.Scan(&s.files, &s.bytes)
	}, userID)
	if err != nil || len(found) == 0 {
		return 0, 0, err
	}
	return found[0].files, found[0].bytes, nil
}

// CountUpload adds to what a user has uploaded and gives the new sums. Other transactions
// about the same user wait for the end of this one.
func (tx *Tx) CountUpload(ctx context.Context, userID string, files, bytes int64) (allFiles, allBytes int64, err error) {
	err = tx.exec(ctx, `INSERT INTO media_users (user_id, files, bytes) VALUES ($1, $2, $3) ON CONFLICT (user_id)
		DO UPDATE SET files = media_users.files + excluded.files, bytes = media_users.bytes + excluded.bytes`, userID, files, bytes)
	if err != nil {
		return 0, 0, err
	}
	return tx.Uploaded(ctx, userID)
}

// PendingMedia is how many URIs of a user wait for their files at a time (ms).
func (q *Reader) PendingMedia(ctx context.Context, userID string, now int64) (int64, error) {
	return selectOne(ctx, q, `SELECT count(*) FROM media WHERE user_id = $1 AND hash = '' AND expires_ts > $2`, scanValue[int64], userID, now)
}

// DeleteExpiredMedia forgets URIs that nobody has given a file before a time (ms).
func (tx *Tx) DeleteExpiredMedia(ctx context.Context, before int64) error {
	return tx.exec(ctx, `DELETE FROM media WHERE hash = '' AND expires_ts <= $1`, before)
}

// RemoteMediaBytes is how much is kept of other servers, with the thumbnails.
func (q *Reader) RemoteMediaBytes(ctx context.Context) (int64, error) {
	return selectOne(ctx, q, `SELECT CAST(coalesce(sum(size + thumbnails), 0) AS BIGINT) FROM media WHERE server <> ''`, scanValue[int64])
}

// OldestRemoteMedia is what of other servers was not wanted for the longest time. Size counts
// the thumbnails.
func (q *Reader) OldestRemoteMedia(ctx context.Context, limit int) ([]Media, error) {
	return selectAll(ctx, q, `SELECT server, media_id, hash, size + thumbnails FROM media WHERE server <> '' ORDER BY used_ts, server, media_id LIMIT $1`,
		scanOldMedia, limit)
}

// DeleteOldestRemoteMedia forgets the first n of [Reader.OldestRemoteMedia] and gives them.
func (tx *Tx) DeleteOldestRemoteMedia(ctx context.Context, n int) ([]Media, error) {
	return selectAll(ctx, &tx.Reader, `DELETE FROM media WHERE (server, media_id) IN (
		SELECT server, media_id FROM media WHERE server <> '' ORDER BY used_ts, server, media_id LIMIT $1)
		RETURNING server, media_id, hash, size + thumbnails`, scanOldMedia, n)
}

func scanOldMedia(row scanner, m *Media) error { return row.Scan(&m.Server, &m.ID, &m.Hash, &m.Size) }

const thumbnailSelect = `SELECT source, width, height, method, hash, size, content_type FROM thumbnails `

func scanThumbnail(row scanner, t *Thumbnail) error {
	return row.Scan(&t.Source, &t.Width, &t.Height, &t.Method, &t.Hash, &t.Size, &t.ContentType)
}

// Thumbnail finds a thumbnail that was made, or the one of width 0 which says that there
// can be none. [ErrNotFound]: nobody has tried.
func (q *Reader) Thumbnail(ctx context.Context, source string, width, height int, method string) (Thumbnail, error) {
	return selectOne(ctx, q, thumbnailSelect+`WHERE source = $1 AND (width = 0 OR width = $2 AND height = $3 AND method = $4)`,
		scanThumbnail, source, width, height, method)
}

// AddThumbnail stores a thumbnail that was made for m; one that there is already stays.
func (tx *Tx) AddThumbnail(ctx context.Context, m *Media, t *Thumbnail) error {
	added, err := tx.execCount(ctx, `INSERT INTO thumbnails (source, width, height, method, hash, size, content_type)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (source, width, height, method) DO NOTHING`,
		t.Source, t.Width, t.Height, t.Method, t.Hash, t.Size, t.ContentType)
	if err != nil || added == 0 || t.Hash == t.Source {
		return err
	}
	return tx.exec(ctx, `UPDATE media SET thumbnails = thumbnails + $1 WHERE server = $2 AND media_id = $3`, t.Size, m.Server, m.ID)
}

// DeleteThumbnails forgets the thumbnails of an image and gives the hashes of their files.
func (tx *Tx) DeleteThumbnails(ctx context.Context, source string) ([]string, error) {
	return selectAll(ctx, &tx.Reader, `DELETE FROM thumbnails WHERE source = $1 RETURNING hash`, scanValue[string], source)
}

// DeleteStrayThumbnails forgets the thumbnails of images that are no longer known.
func (tx *Tx) DeleteStrayThumbnails(ctx context.Context) error {
	return tx.exec(ctx, `DELETE FROM thumbnails WHERE NOT EXISTS (SELECT 1 FROM media WHERE media.hash = thumbnails.source AND media.hash <> '')`)
}

// UsedFiles are those of the hashes whose files are needed.
func (q *Reader) UsedFiles(ctx context.Context, hashes []string) ([]string, error) {
	return selectAll(ctx, q, `SELECT hash FROM media WHERE hash = ANY($1) AND hash <> ''
		UNION SELECT hash FROM thumbnails WHERE hash = ANY($1) AND hash <> '' AND hash <> source`, scanValue[string], List(hashes))
}
