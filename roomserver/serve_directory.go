package roomserver

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"beep/matrix"
	"beep/storage"
)

const (
	// MaxPublished bounds a page of the room directory.
	MaxPublished = 100
	// publishedBatch is how many rooms are looked at at once where not all are wanted, and
	// publishedLooked how many one request looks at.
	publishedBatch  = 200
	publishedLooked = 2000
)

// PublishedQuery asks for a page of the room directory.
type PublishedQuery struct {
	Limit  int       // of the rooms; 0 leaves it to the server
	Since  string    // NextBatch or PrevBatch of another page
	Search string    // in names, topics and canonical aliases, in any case; "" for all
	Types  []*string // room types, of which nil is that of a room without; nil for all
	Remote bool      // for another server: not the rooms where no other may take part
}

// PublishedPage is a page of the room directory, the largest rooms first.
type PublishedPage struct {
	Chunk     []PublicRoom `json:"chunk"`
	NextBatch string       `json:"next_batch,omitzero"`
	PrevBatch string       `json:"prev_batch,omitzero"`
	Total     int64        `json:"total_room_count_estimate"`
}

// PublishedRooms is a page of the room directory (client-server API, "Published Room
// Directory"). A page may have fewer rooms than asked for and not be the last one.
// [matrix.InvalidParam].
func (r *Rooms) PublishedRooms(ctx context.Context, q PublishedQuery) (*PublishedPage, error) {
	d, err := newDirectoryRead(r, q)
	if err != nil {
		return nil, err
	}
	total, err := r.db.CountPublished(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.read(ctx); err != nil {
		return nil, err
	}
	page := &PublishedPage{Chunk: d.chunk, Total: total}
	before, after := d.began, d.ended
	if d.backwards {
		slices.Reverse(page.Chunk)
		before, after = after, before
	}
	if d.backwards && d.more || !d.backwards && q.Since != "" {
		page.PrevBatch = batchToken(before, true)
	}
	if !d.backwards && d.more || d.backwards && len(d.chunk) > 0 {
		page.NextBatch = batchToken(after, false)
	}
	return page, nil
}

// directoryRead goes through the directory in one direction.
type directoryRead struct {
	rooms     *Rooms
	query     PublishedQuery
	backwards bool
	chunk     []PublicRoom
	// began is the place of the first room that was looked at, ended that of the last.
	began, ended storage.DirectoryPlace
	more         bool // there may be rooms behind ended
}

func newDirectoryRead(r *Rooms, q PublishedQuery) (*directoryRead, error) {
	d := &directoryRead{rooms: r, query: q, chunk: []PublicRoom{}, ended: storage.DirectoryPlace{Joined: math.MaxInt64}}
	if q.Limit < 0 {
		return nil, matrix.InvalidParam.With("limit must not be negative")
	}
	if q.Limit == 0 || q.Limit > MaxPublished {
		d.query.Limit = MaxPublished
	}
	d.query.Search = strings.ToLower(strings.TrimSpace(q.Search))
	if q.Since != "" {
		var ok bool
		if d.ended, d.backwards, ok = parseBatchToken(q.Since); !ok {
			return nil, matrix.InvalidParam.With("since is not a token of the room directory")
		}
	}
	d.began = d.ended
	return d, nil
}

func (d *directoryRead) read(ctx context.Context) error {
	page := d.rooms.db.PublishedAfter
	if d.backwards {
		page = d.rooms.db.PublishedBefore
	}
	size := publishedBatch
	if d.query.Search == "" && d.query.Types == nil {
		size = d.query.Limit + 1
	}
	for looked := 0; looked < publishedLooked; looked += size {
		batch, err := page(ctx, d.ended, size)
		if err != nil {
			return err
		}
		summaries, err := d.rooms.summaries(ctx, batch)
		if err != nil {
			return err
		}
		for i := range batch {
			if d.more = len(d.chunk) == d.query.Limit; d.more {
				return nil
			}
			d.look(&batch[i], summaries[batch[i].Number], looked+i == 0)
		}
		if d.more = len(batch) == size; !d.more {
			return nil
		}
	}
	return nil
}

func (d *directoryRead) look(room *storage.Room, s *Summary, first bool) {
	d.ended = storage.DirectoryPlace{Joined: room.Joined, Room: room.Number}
	if first {
		d.began = d.ended
	}
	if d.query.wants(s) {
		d.chunk = append(d.chunk, s.PublicRoom)
	}
}

func (q *PublishedQuery) wants(s *Summary) bool {
	if q.Remote && s.local {
		return false
	}
	if q.Types != nil && !slices.ContainsFunc(q.Types, func(t *string) bool {
		return t == nil && s.RoomType == "" || t != nil && *t == s.RoomType
	}) {
		return false
	}
	return q.Search == "" || slices.ContainsFunc([]string{s.Name, s.Topic, s.CanonicalAlias}, func(text string) bool {
		return strings.Contains(strings.ToLower(text), q.Search)
	})
}

// batchToken is a place in the directory and the direction from there, for clients.
func batchToken(place storage.DirectoryPlace, backwards bool) string {
	direction := "n"
	if backwards {
		direction = "p"
	}
	return fmt.Sprintf("%s%d_%d", direction, place.Joined, place.Room)
}

func parseBatchToken(token string) (place storage.DirectoryPlace, backwards, ok bool) {
	rest, forwards := strings.CutPrefix(token, "n")
	if !forwards {
		rest, backwards = strings.CutPrefix(token, "p")
	}
	n, err := fmt.Sscanf(rest, "%d_%d", &place.Joined, &place.Room)
	return place, backwards, (forwards || backwards) && n == 2 && err == nil && batchToken(place, backwards) == token
}
