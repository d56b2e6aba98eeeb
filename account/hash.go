package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"beep/matrix"
)

// Hashing is what one argon2id hash of a password costs.
type Hashing struct {
	MemoryKiB uint32
	Passes    uint32
	Threads   uint8
}

var (
	// DefaultHashing is what OWASP asks for at least.
	DefaultHashing = Hashing{MemoryKiB: 19 << 10, Passes: 2, Threads: 1}
	// CheapHashing protects nothing. For test beds.
	CheapHashing = Hashing{MemoryKiB: 64, Passes: 1, Threads: 1}
)

const (
	// maxPassword is the size of a password in bytes.
	maxPassword = 512
	saltSize    = 16
	keySize     = 32
	// queuedPerCore is how many may wait for each hash under way, and queueTime
	// about how long the last of them waits.
	queuedPerCore = 32
	queueTime     = 2 * time.Second
	// mostMemoryKiB and mostPasses bound what a stored hash may cost.
	mostMemoryKiB = 1 << 20
	mostPasses    = 64
)

// hasher hashes as many passwords at once as there are processors, lets some more
// wait, and refuses the rest.
type hasher struct {
	cost   Hashing
	queue  chan struct{} // those that hash or wait
	slots  chan struct{} // those that hash
	absent string        // a hash that no password has
}

func newHasher(cost Hashing) *hasher {
	n := runtime.GOMAXPROCS(0)
	return &hasher{
		cost:   cost,
		queue:  make(chan struct{}, n+n*queuedPerCore),
		slots:  make(chan struct{}, n),
		absent: encodeHash(cost, randomBytes(saltSize), randomBytes(keySize)),
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

// enter waits for a turn; the caller ends it with leave. M_LIMIT_EXCEEDED.
func (h *hasher) enter(ctx context.Context) error {
	select {
	case h.queue <- struct{}{}:
	default:
		return matrix.LimitExceeded.With("Too many people are logging in at once").After(queueTime)
	}
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		<-h.queue
		return ctx.Err()
	}
}

func (h *hasher) leave() {
	<-h.slots
	<-h.queue
}

// hash gives the PHC string of a password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	salt := randomBytes(saltSize)
	return encodeHash(h.cost, salt, h.cost.key(password, salt, keySize)), nil
}

// matches tells whether the password has this hash. The hash "", of an account
// without password or of no account at all, takes as long as any other and
// matches nothing.
func (h *hasher) matches(ctx context.Context, hash, password string) (bool, error) {
	if len(password) > maxPassword {
		return false, nil
	}
	absent := hash == ""
	if absent {
		hash = h.absent
	}
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	defer h.leave()
	ok, err := compareHash(hash, password)
	return ok && !absent, err
}

func compareHash(hash, password string) (bool, error) {
	if strings.HasPrefix(hash, "$2") {
		err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password))
		if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			return false, nil
		}
		return err == nil, err
	}
	cost, salt, key, err := decodeHash(hash)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(key, cost.key(password, salt, uint32(len(key)))) == 1, nil
}

// outdated tells whether a hash should be made anew, now that its password is known.
func (h *hasher) outdated(hash string) bool {
	cost, _, _, err := decodeHash(hash)
	return err != nil || cost.MemoryKiB < h.cost.MemoryKiB || cost.Passes < h.cost.Passes
}

func (c Hashing) key(password string, salt []byte, size uint32) []byte {
	return argon2.IDKey([]byte(password), salt, c.Passes, c.MemoryKiB, c.Threads, size)
}

func encodeHash(c Hashing, salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.MemoryKiB, c.Passes, c.Threads,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

var errHash = errors.New("account: a stored password hash is malformed")

// decodeHash takes a PHC string of argon2id apart.
func decodeHash(hash string) (c Hashing, salt, key []byte, err error) {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return c, nil, nil, errHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.MemoryKiB, &c.Passes, &c.Threads); err != nil {
		return c, nil, nil, errHash
	}
	if c.MemoryKiB > mostMemoryKiB || c.Passes < 1 || c.Passes > mostPasses || c.Threads < 1 {
		return c, nil, nil, errHash
	}
	if salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil {
		return c, nil, nil, errHash
	}
	if key, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(key) < 16 || len(key) > 64 {
		return c, nil, nil, errHash
	}
	return c, salt, key, nil
}
