package stateres

import (
	"math/rand/v2"
	"testing"
)

// BenchmarkLarge resolves the rooms of 2,000 members and some 300 conflicted keys:
// warm with the events parsed before, as from the cache of a busy room; cold with all
// events parsed anew.
func BenchmarkLarge(b *testing.B) {
	for _, v := range readVectors(b) {
		if v.Kind != "large" {
			continue
		}
		room := v.room(b, rand.New(rand.NewPCG(0, 0)))
		in := room.input()
		for _, set := range v.Sets {
			in.Sets = append(in.Sets, room.set(set))
		}
		for name, load := range map[string]loader{"warm": in.Load, "cold": room.parseAnew} {
			b.Run(v.Case+"/"+name, func(b *testing.B) {
				in.Load = load
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Resolve(in); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
