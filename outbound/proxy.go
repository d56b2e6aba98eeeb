package outbound

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// dialProxy asks the proxy for a tunnel to host:port.
func (d *Dialer) dialProxy(ctx context.Context, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("outbound: %w", err)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if err := d.Check(addr); err != nil {
			return nil, err
		}
	}
	proxy := d.proxy.Host
	if d.proxy.Port() == "" {
		proxy = net.JoinHostPort(d.proxy.Hostname(), "80")
	}
	// The operator chose this address, so it may be a private one.
	conn, err := (&net.Dialer{Resolver: d.resolver}).DialContext(ctx, "tcp", proxy)
	if err != nil {
		return nil, fmt.Errorf("outbound: the proxy: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err = d.tunnel(conn, address)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("outbound: the proxy: %w", err), conn.Close())
	}
	return conn, nil
}

func (d *Dialer) tunnel(conn net.Conn, address string) error {
	ask := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if user := d.proxy.User; user != nil {
		password, _ := user.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		ask.Header.Set("Proxy-Authorization", "Basic "+credentials)
	}
	if err := ask.Write(conn); err != nil {
		return err
	}
	from := bufio.NewReader(Limit(conn, maxAnswerHeader))
	answer, err := http.ReadResponse(from, ask)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(answer.Status))
	}
	// Both TLS and HTTP leave the first word to the client.
	if from.Buffered() > 0 {
		return errors.New("it spoke before it was asked")
	}
	return nil
}
