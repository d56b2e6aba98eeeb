package contract

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		load(b)
	}
}

func BenchmarkCheckSmall(b *testing.B) {
	benchmarkCheck(b, exchange(b, "POST "+client+"/createRoom", `{"name":"a"}`, 200, `{"room_id":"!a:b"}`))
}

// BenchmarkCheckSync checks an answer of 100 events.
func BenchmarkCheckSync(b *testing.B) {
	events := make([]string, 100)
	for i := range events {
		events[i] = fmt.Sprintf(`{"event_id":"$e%d","type":"m.room.message","sender":"@a:b","origin_server_ts":%d,`+
			`"content":{"msgtype":"m.text","body":"hello"},"unsigned":{"age":1}}`, i, 1700000000000+i)
	}
	benchmarkCheck(b, exchange(b, "GET "+client+"/sync?since=s1&timeout=0", "", 200,
		`{"next_batch":"s2","rooms":{"join":{"!r:b":{"timeline":{"limited":false,"prev_batch":"s1","events":[`+strings.Join(events, ",")+`]}}}}}`))
}

func benchmarkCheck(b *testing.B, x *Exchange) {
	s := load(b)
	if got := faults(s, x); got != nil { // compiles too
		b.Fatal(got)
	}
	b.SetBytes(int64(len(x.ResponseBody)))
	b.ReportAllocs()
	for b.Loop() {
		s.Check(x)
	}
}
