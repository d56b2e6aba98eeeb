package remote

import (
	"errors"
	"io"
	"sync/atomic"
)

const (
	// largeAnswer is the bound beyond which an answer counts against the budget, in bytes.
	largeAnswer = 4 << 20
	// maxLarge bounds what is in memory of large answers while they come in, in bytes: of all
	// servers together, as one that is hostile has many names.
	maxLarge = 512 << 20
)

// errBusy says that too much comes in from other servers at once.
var errBusy = errors.New("other servers send too much at the same time")

// budget counts the bytes of large answers that are being read.
type budget struct {
	most int64
	used atomic.Int64
}

// spending is a reader that counts against the budget until it is closed.
type spending struct {
	*budget
	from  io.Reader
	spent int64
}

// Read serves [io.Reader]. errBusy: nothing is left of the budget.
func (s *spending) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.spent += int64(n)
	if s.used.Add(int64(n)) > s.most {
		return n, errBusy
	}
	return n, err
}

// end gives back what was spent.
func (s *spending) end() { s.used.Add(-s.spent) }
