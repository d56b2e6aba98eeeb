package storage

import (
	"encoding/binary"
	"errors"
	"slices"
)

// pack writes positions, in order, as varints of their differences.
func pack(positions []int64) []byte {
	sorted := slices.Sorted(slices.Values(positions))
	packed := make([]byte, 0, 4*len(sorted))
	last := int64(0)
	for _, pos := range sorted {
		packed = binary.AppendUvarint(packed, uint64(pos-last))
		last = pos
	}
	return packed
}

var errPacked = errors.New("storage: a packed list is damaged")

// unpack reads what pack wrote.
func unpack(packed []byte) ([]int64, error) {
	var positions []int64
	last := int64(0)
	for len(packed) > 0 {
		step, n := binary.Uvarint(packed)
		if n <= 0 {
			return nil, errPacked
		}
		last += int64(step)
		positions = append(positions, last)
		packed = packed[n:]
	}
	return positions, nil
}
