package account

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"

	lru "github.com/hashicorp/golang-lru/v2"

	"beep/matrix"
	"beep/storage"
)

const (
	// cachedFilters and largestCachedFilter (bytes of JSON) bound the memory of the
	// cache: about 20 MB if everybody has a different filter of the largest size.
	cachedFilters       = 2000
	largestCachedFilter = 4 << 10
	filterIDSize        = 16 // bytes of the hash that make the id
)

// Filters keeps the filters that clients define (client-server API, "Filtering").
type Filters struct {
	db    *storage.DB
	cache *lru.Cache[filterKey, *matrix.Filter]
}

type filterKey struct{ userID, filterID string }

// NewFilters keeps filters in the database and those in use in memory.
func NewFilters(db *storage.DB) *Filters {
	// The constructor fails only for a size that is not positive.
	cache, _ := lru.New[filterKey, *matrix.Filter](cachedFilters)
	return &Filters{db: db, cache: cache}
}

// Define keeps a filter for the user and gives its id. The same filter has the same
// id. Its errors are those of [matrix.ParseFilter].
func (f *Filters) Define(ctx context.Context, userID string, definition json.RawMessage) (filterID string, err error) {
	if _, err := matrix.ParseFilter(definition); err != nil {
		return "", err
	}
	canonical, err := matrix.CanonicalJSON(definition, false)
	if err != nil {
		return "", matrix.BadJSON.Because(err)
	}
	hash := sha256.Sum256(canonical)
	filterID = base64.RawURLEncoding.EncodeToString(hash[:filterIDSize])
	if _, err := f.db.Filter(ctx, userID, filterID); !errors.Is(err, storage.ErrNotFound) {
		return filterID, err
	}
	return filterID, f.db.Write(ctx, func(tx *storage.Tx) error {
		return tx.PutFilter(ctx, userID, filterID, string(canonical))
	})
}

// Definition is a filter of the user as JSON. M_NOT_FOUND.
func (f *Filters) Definition(ctx context.Context, userID, filterID string) (json.RawMessage, error) {
	definition, err := f.db.Filter(ctx, userID, filterID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, matrix.NotFound.With("There is no such filter").Because(err)
	}
	return json.RawMessage(definition), err
}

// Get reads the filter parameter of /sync: the id of one of the user's filters, or a
// filter itself, or "" for one that lets everything pass. M_NOT_FOUND for an id that
// is unknown; for a filter the errors of [matrix.ParseFilter].
func (f *Filters) Get(ctx context.Context, userID, parameter string) (*matrix.Filter, error) {
	if parameter == "" {
		return &matrix.Filter{}, nil
	}
	if parameter[0] == '{' {
		return matrix.ParseFilter([]byte(parameter))
	}
	key := filterKey{userID, parameter}
	if filter, ok := f.cache.Get(key); ok {
		return filter, nil
	}
	definition, err := f.Definition(ctx, userID, parameter)
	if err != nil {
		return nil, err
	}
	filter, err := matrix.ParseFilter(definition)
	if err != nil {
		return nil, err
	}
	if len(definition) <= largestCachedFilter {
		f.cache.Add(key, filter)
	}
	return filter, nil
}
