package storage

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is a step of the schema. Its number is above those of all earlier
// ones. A migration that has been released is never changed.
type migration struct {
	version int64
	name    string
	text    string
}

// embeddedMigrations gives the migrations of this program in their order.
func embeddedMigrations() ([]migration, error) {
	files, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	all := make([]migration, 0, len(files))
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "migrations/"), ".sql")
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil || len(all) > 0 && version <= all[len(all)-1].version {
			return nil, fmt.Errorf("storage: migration %s has no number above that of the one before", name)
		}
		text, err := migrationFiles.ReadFile(file)
		if err != nil {
			return nil, err
		}
		all = append(all, migration{version, name, string(text)})
	}
	return all, nil
}

// migrate applies the migrations that the database has not seen, each in a
// transaction of its own.
func (db *DB) migrate(ctx context.Context, all []migration) error {
	for {
		var left int
		err := db.Write(ctx, func(tx *Tx) (err error) {
			left, err = tx.migrateNext(ctx, all)
			return err
		})
		if err != nil || left == 0 {
			return err
		}
	}
}

// migrateNext applies the first migration that is missing and gives the number
// of those that still are. It looks at the version under the lock: another
// process may have been faster.
func (tx *Tx) migrateNext(ctx context.Context, all []migration) (left int, err error) {
	if lock := tx.dialect.lockSchema; lock != "" {
		if err := tx.exec(ctx, lock); err != nil {
			return 0, err
		}
	}
	version, err := tx.schemaVersion(ctx)
	if err != nil {
		return 0, err
	}
	known := all[len(all)-1].version
	if version > known {
		return 0, fmt.Errorf("the database has schema version %d, and this program knows versions up to %d: "+
			"run the newer program, or restore a backup from before the upgrade", version, known)
	}
	done := slices.IndexFunc(all, func(m migration) bool { return m.version > version })
	if done < 0 {
		return 0, nil
	}
	next := all[done]
	if err := tx.exec(ctx, tx.dialect.schema(next.text)); err != nil {
		return 0, fmt.Errorf("migration %s: %w", next.name, err)
	}
	err = tx.exec(ctx, `INSERT INTO schema_version (version, name, applied_ts) VALUES ($1, $2, $3)`,
		next.version, next.name, time.Now().UnixMilli())
	return len(all) - done - 1, err
}

// schemaVersion is the number of the last migration applied; 0 of a new database.
func (tx *Tx) schemaVersion(ctx context.Context) (int64, error) {
	tables, err := selectOne(ctx, &tx.Reader, tx.dialect.hasTable, scanValue[int64], "schema_version")
	if err != nil || tables == 0 {
		return 0, err
	}
	return selectOne(ctx, &tx.Reader, `SELECT coalesce(max(version), 0) FROM schema_version`, scanValue[int64])
}
