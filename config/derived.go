package config

import (
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// BaseURL is the address that clients use, without a slash at the end.
func (c *Config) BaseURL() string {
	switch {
	case c.PublicBaseURL != "":
		return strings.TrimRight(c.PublicBaseURL, "/")
	case c.ServerName != "localhost" && c.ServerName != "":
		return "https://" + c.ServerName
	}
	for _, l := range c.Listeners {
		if network, _ := l.Network(); network == "tcp" {
			return l.URL(l.Address)
		}
	}
	return "http://localhost"
}

// Network gives what net.Listen takes: tcp or unix, and the address.
func (l *Listener) Network() (network, address string) { return SplitAddress(l.Address) }

// URL is how people write the listener, once it is known at which address it is
// bound. One that is bound at all addresses is called localhost.
func (l *Listener) URL(bound string) string {
	if strings.HasPrefix(l.Address, unixPrefix) {
		return l.Address
	}
	scheme := "http://"
	if l.TLS != nil {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(bound)
	if addr, parseErr := netip.ParseAddr(host); err == nil && (host == "" || parseErr == nil && addr.IsUnspecified()) {
		return scheme + "localhost:" + port
	}
	return scheme + bound
}

// SplitAddress divides unix:/path or host:port into the network and the address
// that net.Listen takes.
func SplitAddress(address string) (network, rest string) {
	if path, unix := strings.CutPrefix(address, unixPrefix); unix {
		return "unix", path
	}
	return "tcp", address
}

// ShownDatabase is the database's URL without its password.
func (c *Config) ShownDatabase() string {
	text := c.Database.URL.Reveal()
	if strings.HasPrefix(text, sqlitePrefix) {
		return text
	}
	u, err := url.Parse(text)
	if err != nil {
		return hidden
	}
	u.RawQuery = "" // libpq takes a password there too
	return u.Redacted()
}

// Prefixes is the trusted proxies as networks.
func (c *Config) Prefixes() []netip.Prefix {
	prefixes := make([]netip.Prefix, len(c.TrustedProxies))
	for i, network := range c.TrustedProxies {
		prefixes[i] = network.Prefix
	}
	return prefixes
}

// LogLevel is the least important level that is written.
func (l *Logging) LogLevel() slog.Level {
	var level slog.Level
	if level.UnmarshalText([]byte(l.Level)) != nil {
		return slog.LevelInfo
	}
	return level
}

// On lists the keys of the switches that are on, as unsafe.no_rate_limits.
func (u *Unsafe) On() []string {
	var on []string
	for _, s := range []struct {
		key string
		on  bool
	}{
		{"no_rate_limits", u.NoRateLimits},
		{"cheap_password_hashing", u.CheapPasswordHashing},
		{"extra_ca_file", u.ExtraCAFile != ""},
		{"no_outbound_deny_list", u.NoOutboundDenyList},
		{"unsafe_durability", u.UnsafeDurability},
	} {
		if s.on {
			on = append(on, "unsafe."+s.key)
		}
	}
	return on
}

// ByName gives each rate by its key.
func (r *Rates) ByName() map[string]Rate {
	return map[string]Rate{
		"registration": r.Registration, "login": r.Login, "message": r.Message,
		"join": r.Join, "invite": r.Invite, "federation": r.Federation,
		"upload": r.Upload, "media": r.Media, "remote_media": r.RemoteMedia, "other": r.Other,
	}
}
