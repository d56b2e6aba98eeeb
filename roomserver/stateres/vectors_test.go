package stateres

import (
	"compress/gzip"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
)

// vector is a line of cases.jsonl.gz: a room, some of its states, what they resolve to.
type vector struct {
	Case    string
	Kind    string
	Version matrix.RoomVersion `json:"room_version"`
	Room    string             `json:"room_id"`
	Events  []struct {
		ID    string          `json:"event_id"`
		Event json.RawMessage `json:"event"`
	}
	Sets     [][]string `json:"state_sets"`
	Resolved []string
	SharpFor []string `json:"sharp_for"`
}

// vectorsFolder is the folder that STATERES_VECTORS names, else the one that
// lies beside the checkout.
func vectorsFolder(tb testing.TB) string {
	tb.Helper()
	if folder := os.Getenv("STATERES_VECTORS"); folder != "" {
		return folder
	}
	root, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			return filepath.Join(root, "..", "shared", "stateres-vectors")
		}
		if filepath.Dir(root) == root {
			tb.Fatal("there is no go.mod above the test")
		}
		root = filepath.Dir(root)
	}
}

func readVectors(tb testing.TB) []*vector {
	tb.Helper()
	path := filepath.Join(vectorsFolder(tb), "cases.jsonl.gz")
	file, err := os.Open(path)
	if err != nil {
		tb.Fatalf("the reference results are missing: %v; STATERES_VECTORS names the folder they are in", err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		tb.Fatal(err)
	}
	var all []*vector
	for decoder := json.NewDecoder(unpacked); decoder.More(); {
		v := &vector{}
		if err := decoder.Decode(v); err != nil {
			tb.Fatal(err)
		}
		all = append(all, v)
	}
	if len(all) == 0 {
		tb.Fatalf("%s has no cases", path)
	}
	return all
}

// room is the case's room. Its events get their numbers, and the keys theirs, in the
// order that the shuffle leaves them in.
func (v *vector) room(tb testing.TB, shuffle *rand.Rand) *room {
	tb.Helper()
	r := newRoom(tb, v.Version, v.Room)
	for _, i := range shuffle.Perm(len(v.Events)) {
		r.add(v.Events[i].ID, v.Events[i].Event)
	}
	return r
}

// TestVectors resolves every case with the numbers given in several orders, and with
// its states in every order. Among them are the resets of state that algorithm 2 has and 2.1
// has not (F13).
func TestVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.Case, func(t *testing.T) {
			t.Parallel()
			want := slices.Sorted(slices.Values(v.Resolved))
			for seed := range uint64(3) {
				r := v.room(t, rand.New(rand.NewPCG(seed, 0)))
				for _, order := range permutations(len(v.Sets)) {
					r.loads, r.loaded, r.asked = 0, 0, 0
					in := r.input()
					for _, i := range order {
						in.Sets = append(in.Sets, r.set(v.Sets[i]))
					}
					resolved, err := Resolve(in)
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(want, r.ids(resolved)); diff != "" {
						t.Fatalf("states in the order %v, numbers of seed %d (sharp for %v): want -, got +\n%s", order, seed, v.SharpFor, diff)
					}
					r.checkReads(t, v.Kind == "large")
				}
			}
		})
	}
}

// checkReads checks that reading was done in few calls, and that the members of a
// large room who have no part in the conflict were not read.
func (r *room) checkReads(t *testing.T, large bool) {
	t.Helper()
	if r.loads > 2 || r.asked > 1 {
		t.Fatalf("%d calls of Load and %d of Keys, want 2 and 1 at most", r.loads, r.asked)
	}
	if large && r.loaded > len(r.events)/2 {
		t.Fatalf("%d of %d events were read", r.loaded, len(r.events))
	}
}

// permutations are all orders of the numbers from 0 to n-1.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{{}}
	}
	var all [][]int
	for _, shorter := range permutations(n - 1) {
		for at := range n {
			all = append(all, slices.Insert(slices.Clone(shorter), at, n-1))
		}
	}
	return all
}
