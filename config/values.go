package config

import (
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written as "512 B", "64 KiB", "50 MiB", "2 GiB".
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
}

// UnmarshalText reads a whole number and a unit.
func (s *Size) UnmarshalText(text []byte) error {
	word := strings.TrimSpace(string(text))
	for _, unit := range sizeUnits {
		digits, found := strings.CutSuffix(word, unit.name)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/unit.bytes {
			break
		}
		*s = Size(n * unit.bytes)
		return nil
	}
	return fmt.Errorf("expected a size with its unit, as 50 MiB, not %q", word)
}

// MarshalText writes the largest unit that needs no fraction.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String is the form that UnmarshalText reads.
func (s Size) String() string {
	for _, unit := range sizeUnits {
		if s != 0 && int64(s)%unit.bytes == 0 {
			return fmt.Sprintf("%d %s", int64(s)/unit.bytes, unit.name)
		}
	}
	return "0 B"
}

// FileMode is a file's permissions, written in octal, as "0660".
type FileMode fs.FileMode

// UnmarshalText reads octal digits.
func (m *FileMode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(string(text), "0o"), 8, 16)
	if err != nil || n > 0o777 {
		return fmt.Errorf("expected permissions in octal, as \"0660\", not %q", text)
	}
	*m = FileMode(n)
	return nil
}

// MarshalText writes octal digits.
func (m FileMode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", uint32(m)), nil }

// FileMode is the mode as the standard library has it.
func (m FileMode) FileMode() fs.FileMode { return fs.FileMode(m) }

// Network is a network's address or a single one, as 10.0.0.0/8 or 10.1.2.3.
type Network struct{ netip.Prefix }

// UnmarshalText reads an address with or without a prefix length.
func (n *Network) UnmarshalText(text []byte) error {
	word := string(text)
	if addr, err := netip.ParseAddr(word); err == nil && addr.Zone() == "" {
		n.Prefix = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		return nil
	}
	prefix, err := netip.ParsePrefix(word)
	if err != nil {
		return fmt.Errorf("expected an address or a network, as 10.1.2.3 or 10.0.0.0/8, not %q", word)
	}
	n.Prefix = prefix.Masked()
	return nil
}

// Time is a moment, written as RFC 3339 has it: 2026-01-31T12:00:00Z.
type Time struct{ time.Time }

// UnmarshalText reads date, time and zone.
func (t *Time) UnmarshalText(text []byte) error {
	moment, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("expected a date with the time, as 2026-01-31T12:00:00Z, not %q", text)
	}
	t.Time = moment
	return nil
}

const day = 24 * time.Hour

// ParseDuration reads what time.ParseDuration reads, and days, as 7d.
func ParseDuration(word string) (time.Duration, error) {
	if digits, found := strings.CutSuffix(word, "d"); found {
		if n, err := strconv.ParseUint(digits, 10, 16); err == nil {
			return time.Duration(n) * day, nil
		}
	}
	d, err := time.ParseDuration(word)
	if err != nil || d < 0 || (d == 0 && word != "0s") {
		return 0, fmt.Errorf("expected a duration with its unit, as 30s, 5m, 1h or 7d, not %q", word)
	}
	return d, nil
}

// formatDuration writes the largest unit that needs no fraction.
func formatDuration(d time.Duration) string {
	for _, unit := range []struct {
		name string
		d    time.Duration
	}{{"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if d != 0 && d%unit.d == 0 {
			return fmt.Sprintf("%d%s", d/unit.d, unit.name)
		}
	}
	return d.String()
}
