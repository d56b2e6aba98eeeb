package config

import "slices"

// nearest is the candidate that the fewest typing mistakes make of word; empty
// when none is near.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", max(2, len(word)/3)+1
	for _, candidate := range candidates {
		if d := distance(word, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance is the number of letters to insert, remove, replace or swap with
// their neighbour that make b of a.
func distance(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// suggestion names the key that was probably meant: one of the same section, or
// one of the same name elsewhere. It is empty when no key is near.
func suggestion(key string, siblings, everywhere []string) string {
	if near := nearest(key, siblings); near != "" {
		return near
	}
	for _, path := range everywhere {
		if lastName(path) == key {
			return path
		}
	}
	names := make([]string, len(everywhere))
	for i, path := range everywhere {
		names[i] = lastName(path)
	}
	if near := nearest(key, names); near != "" {
		return everywhere[slices.Index(names, near)]
	}
	return ""
}
