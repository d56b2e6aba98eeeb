package outboundtest

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is a DNS server on a UDP port of this machine. It knows the names that it is told, and
// that there are no others.
type DNS struct {
	conn net.PacketConn

	mu      sync.Mutex
	records map[string][]dnsmessage.ResourceBody
	turns   map[string]int // names that give one of their addresses at a time
	broken  map[string]bool
	asked   map[string]int
}

// NewDNS starts a server, which ends with the test.
func NewDNS(t testing.TB) *DNS {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &DNS{conn: conn, records: map[string][]dnsmessage.ResourceBody{}, turns: map[string]int{},
		broken: map[string]bool{}, asked: map[string]int{}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.serve()
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	return d
}

// Resolver asks this server and no other.
func (d *DNS) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", d.conn.LocalAddr().String())
	}}
}

// Address sets a name's addresses.
func (d *DNS) Address(name string, addresses ...string) {
	var bodies []dnsmessage.ResourceBody
	for _, text := range addresses {
		if addr := netip.MustParseAddr(text); addr.Is4() {
			bodies = append(bodies, &dnsmessage.AResource{A: addr.As4()})
		} else {
			bodies = append(bodies, &dnsmessage.AAAAResource{AAAA: addr.As16()})
		}
	}
	d.set(name, bodies)
}

// Rebind sets a name's addresses so that each answer has another one of them.
func (d *DNS) Rebind(name string, addresses ...string) {
	d.Address(name, addresses...)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turns[whole(name)] = 0
}

// Alias makes a name a CNAME of another.
func (d *DNS) Alias(name, target string) {
	d.set(name, []dnsmessage.ResourceBody{&dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(whole(target))}})
}

// Service adds an SRV record to a name, as _matrix-fed._tcp.example.org.
func (d *DNS) Service(name, target string, port, priority, weight uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records[whole(name)] = append(d.records[whole(name)], &dnsmessage.SRVResource{
		Priority: priority, Weight: weight, Port: port, Target: dnsmessage.MustNewName(whole(target)),
	})
}

// Break makes the server fail whenever it is asked for the name.
func (d *DNS) Break(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken[whole(name)] = true
}

// Forget takes a name's records away.
func (d *DNS) Forget(name string) { d.set(name, nil) }

// Asked is how many questions there were about a name.
func (d *DNS) Asked(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[whole(name)]
}

func (d *DNS) set(name string, bodies []dnsmessage.ResourceBody) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.records, whole(name))
	if bodies != nil {
		d.records[whole(name)] = bodies
	}
}

// whole is a name as it stands in a message.
func whole(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) + "." }

func (d *DNS) serve() {
	packet := make([]byte, 1500)
	for {
		n, from, err := d.conn.ReadFrom(packet)
		if err != nil {
			return
		}
		var question dnsmessage.Message
		if question.Unpack(packet[:n]) != nil || len(question.Questions) != 1 {
			continue
		}
		reply := d.answer(&question)
		if answer, err := reply.Pack(); err == nil {
			d.conn.WriteTo(answer, from)
		}
	}
}

func (d *DNS) answer(question *dnsmessage.Message) *dnsmessage.Message {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := question.Questions[0]
	name := whole(q.Name.String())
	d.asked[name]++
	reply := &dnsmessage.Message{Questions: question.Questions}
	reply.Header = dnsmessage.Header{ID: question.ID, Response: true, Authoritative: true, RecursionAvailable: true, RecursionDesired: true}
	switch _, known := d.records[name]; {
	case d.broken[name]:
		reply.RCode = dnsmessage.RCodeServerFailure
	case !known:
		reply.RCode = dnsmessage.RCodeNameError
	default:
		d.add(reply, name, q.Type)
	}
	return reply
}

// add puts the records of a name into the answer, following aliases.
func (d *DNS) add(reply *dnsmessage.Message, name string, kind dnsmessage.Type) {
	for i, body := range d.records[name] {
		if turn, ok := d.turns[name]; ok && i != turn%len(d.records[name]) {
			continue
		}
		header := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET}
		switch body := body.(type) {
		case *dnsmessage.CNAMEResource:
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: body})
			d.add(reply, body.CNAME.String(), kind)
		case *dnsmessage.AResource:
			if kind == dnsmessage.TypeA {
				reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: body})
			}
		case *dnsmessage.AAAAResource:
			if kind == dnsmessage.TypeAAAA {
				reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: body})
			}
		case *dnsmessage.SRVResource:
			if kind == dnsmessage.TypeSRV {
				reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: body})
			}
		}
	}
	if _, ok := d.turns[name]; ok && kind == dnsmessage.TypeA {
		d.turns[name]++
	}
}
