package config

import (
	"crypto/x509"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"beep/matrix"
)

// validate reports every value that the server could not work with.
func (c *Config) validate(r *report) {
	if c.ServerName != "" && !matrix.ValidServerName(c.ServerName) {
		r.add("server_name", "%q is not a server name: it is a host name or an IP address, with :port if need be, as example.org", c.ServerName)
	}
	if c.PublicBaseURL != "" {
		validateURL(r, "public_base_url", c.PublicBaseURL)
	}
	if c.Data == "" {
		r.add("data", "the data directory has no name")
	}
	c.validateListeners(r)
	c.validateDatabase(r)
	c.validateRegistration(r)
	c.validateLogin(r)
	c.validateLimits(r)
	c.Media.validate(r)
	c.Federation.validate(r)
	c.IdentityServers.validate(r)
	c.WellKnown.validate(r)
	if !matrix.RoomVersion(c.Rooms.DefaultVersion).Supported() {
		r.add("rooms.default_version", "there is no room version %q; take \"1\" to \"12\"", c.Rooms.DefaultVersion)
	}
	oneOf(r, "logging.level", c.Logging.Level, "debug", "info", "warn", "error")
	oneOf(r, "logging.format", c.Logging.Format, "text", "json")
	if c.Unsafe.ExtraCAFile != "" {
		readable(r, "unsafe.extra_ca_file", c.Unsafe.ExtraCAFile)
	}
}

func (c *Config) validateListeners(r *report) {
	if len(c.Listeners) == 0 {
		r.add("listeners", "the server needs at least one address")
	}
	seen := map[string]bool{}
	note := func(key, address string) {
		if fault := addressFault(address); fault != "" {
			r.add(key, "%s", fault)
		} else if seen[address] && !strings.HasSuffix(address, ":0") {
			r.add(key, "%s is taken by a listener above", address)
		}
		seen[address] = true
	}
	for i, l := range c.Listeners {
		key := fmt.Sprintf("listeners[%d]", i)
		note(key+".address", l.Address)
		l.validate(r, key)
	}
	if c.Metrics.Listen != "" {
		note("metrics.listen", c.Metrics.Listen)
	}
}

func (l *Listener) validate(r *report, key string) {
	unix := strings.HasPrefix(l.Address, unixPrefix)
	if l.Mode != 0 && !unix {
		r.add(key+".mode", "only a unix socket has a mode")
	}
	if l.TLS == nil {
		return
	}
	if unix {
		r.add(key+".tls", "a unix socket has no TLS")
	}
	readable(r, key+".tls.certificate", l.TLS.Certificate)
	readable(r, key+".tls.key", l.TLS.Key)
	if l.TLS.ClientCA != "" {
		authorities(r, key+".tls.client_ca", l.TLS.ClientCA)
	}
}

// addressFault says why nothing can listen at the address; empty when it can.
func addressFault(address string) string {
	if path, unix := strings.CutPrefix(address, unixPrefix); unix {
		if path == "" || len(path) > unixPathMax {
			return fmt.Sprintf("the path of a unix socket has 1 to %d bytes", unixPathMax)
		}
		return ""
	}
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if _, ipErr := netip.ParseAddr(host); err != nil || (ipErr != nil && host != "" && host != "localhost") {
		return fmt.Sprintf("%q is not an address: expected IP address and port, as 127.0.0.1:8008, or unix:/path", address)
	}
	return ""
}

// unixPathMax is what the kernel allows for a socket's path (107 bytes), less the
// suffix that it has while it is being made.
const unixPathMax = 103

func (c *Config) validateDatabase(r *report) {
	const key = "database.url"
	text := c.Database.URL.Reveal()
	if path, found := strings.CutPrefix(text, sqlitePrefix); found {
		if path == "" {
			r.add(key, "the SQLite file has no name")
		}
	} else if u, err := url.Parse(text); err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		r.add(key, "expected sqlite:/path/to/file.db or postgres://user:password@host/name")
	} else if password, given := u.User.Password(); given && weakness(password) != "" {
		r.add(key, "the password in it is no secret: %s", weakness(password))
	}
	if c.Database.MaxConnections < 0 {
		r.add("database.max_connections", "cannot be less than 0")
	}
}

func (c *Config) validateRegistration(r *report) {
	reg := &c.Registration
	if reg.TokenRequired && !reg.Open {
		r.add("registration.token_required", "has no effect while registration.open is false; set open to true to admit those who have a token")
	}
	machineSecret(r, "registration.shared_secret", reg.SharedSecret)
	if reg.PasswordMinLength < 1 || reg.PasswordMinLength > 128 {
		r.add("registration.password_min_length", "expected 1 to 128 characters")
	}
	for i, terms := range reg.Terms {
		terms.validate(r, fmt.Sprintf("registration.terms[%d]", i))
		if slices.ContainsFunc(reg.Terms[:i], func(t Terms) bool { return t.Name == terms.Name }) {
			r.add(fmt.Sprintf("registration.terms[%d].name", i), "%q is the name of two documents", terms.Name)
		}
	}
}

// machineSecret reports a secret that was given and protects nothing.
func machineSecret(r *report, key string, secret Secret) {
	if !secret.IsSet() {
		return
	}
	if why := weakness(secret.Reveal()); why != "" {
		r.add(key, "this is no secret: %s; remove the key and the server makes one", why)
	} else if n := utf8.RuneCountInString(secret.Reveal()); n < machineSecretMin {
		r.add(key, "this secret has %d characters; it needs at least %d, as `openssl rand -hex 32` makes", n, machineSecretMin)
	}
}

var termsName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (t *Terms) validate(r *report, key string) {
	if !termsName.MatchString(t.Name) {
		r.add(key+".name", "expected letters, digits, underscores and hyphens, not %q", t.Name)
	}
	if t.Version == "" {
		r.add(key+".version", "is missing")
	}
	if len(t.Languages) == 0 {
		r.add(key+".languages", "at least one language is needed")
	}
	for language, text := range t.Languages {
		if text.Name == "" {
			r.add(key+".languages."+language+".name", "is missing")
		}
		validateURL(r, key+".languages."+language+".url", text.URL)
	}
}

func (c *Config) validateLogin(r *report) {
	if c.Login.AccessTokenLifetime <= 0 {
		r.add("login.access_token_lifetime", "must be more than 0s")
	}
	if c.Login.LoginTokenLifetime <= 0 {
		r.add("login.login_token_lifetime", "must be more than 0s")
	}
}

// requestBodyMin leaves room for one event (64 KiB) in any encoding.
const requestBodyMin = 128 << 10

func (c *Config) validateLimits(r *report) {
	if c.Limits.RequestBody < requestBodyMin {
		r.add("limits.request_body", "must be at least %s, or events do not fit", Size(requestBodyMin))
	}
	if c.Limits.ConnectionsPerAddress < 0 {
		r.add("limits.connections_per_address", "cannot be less than 0")
	}
	for name, rate := range c.Limits.Rates.ByName() {
		key := "limits.rates." + name
		if !(rate.PerSecond > 0) || math.IsInf(rate.PerSecond, 0) {
			r.add(key+".per_second", "must be more than 0; only unsafe.no_rate_limits takes limits away")
		}
		if rate.Burst < 1 {
			r.add(key+".burst", "must be at least 1")
		}
	}
}

const (
	thumbnailMax = 4096
	// pixelsMax keeps what is in memory of one image to 2 GiB.
	pixelsMax = 1 << 28
)

func (m *Media) validate(r *report) {
	if m.MaxUpload < 1 {
		r.add("media.max_upload", "must be more than 0 B")
	}
	if m.MaxRemote < 1 {
		r.add("media.max_remote", "must be more than 0 B")
	}
	if m.RemoteCache < m.MaxRemote {
		r.add("media.remote_cache", "must be at least media.max_remote (%s), or the largest files do not fit", m.MaxRemote)
	}
	if m.UserFiles < 0 {
		r.add("media.user_files", "cannot be less than 0")
	}
	if m.QuotaInfoURL != "" {
		validateURL(r, "media.quota_info_url", m.QuotaInfoURL)
	}
	if m.PendingUploads < 1 {
		r.add("media.pending_uploads", "must be at least 1")
	}
	if m.PendingLifetime <= 0 {
		r.add("media.pending_lifetime", "must be more than 0s")
	}
	if m.MaxPixels < 1 || m.MaxPixels > pixelsMax {
		r.add("media.max_pixels", "expected 1 to %d", pixelsMax)
	}
	for i, size := range m.Thumbnails {
		key := fmt.Sprintf("media.thumbnails[%d]", i)
		oneOf(r, key+".method", size.Method, "crop", "scale")
		if size.Width < 1 || size.Width > thumbnailMax || size.Height < 1 || size.Height > thumbnailMax {
			r.add(key, "width and height have 1 to %d pixels", thumbnailMax)
		} else if slices.Contains(m.Thumbnails[:i], size) {
			r.add(key, "is in the list above")
		}
	}
}

func (f *Federation) validate(r *report) {
	f.validateClosed(r)
	for i, name := range f.TrustedNotaries {
		if !matrix.ValidServerName(name) {
			r.add(fmt.Sprintf("federation.trusted_notaries[%d]", i), "%q is not a server name", name)
		}
	}
	if f.CAFile != "" {
		authorities(r, "federation.ca_file", f.CAFile)
	}
	if f.ClientCertificate != "" || f.ClientKey != "" {
		readable(r, "federation.client_certificate", f.ClientCertificate)
		readable(r, "federation.client_key", f.ClientKey)
	}
	for i, old := range f.OldVerifyKeys {
		old.validate(r, fmt.Sprintf("federation.old_verify_keys[%d]", i))
		if slices.ContainsFunc(f.OldVerifyKeys[:i], func(k OldVerifyKey) bool { return k.ID == old.ID }) {
			r.add(fmt.Sprintf("federation.old_verify_keys[%d].id", i), "%q is the id of two keys", old.ID)
		}
	}
}

func (i *IdentityServers) validate(r *report) {
	for n, name := range i.Allow {
		if !matrix.ValidServerName(name) {
			r.add(fmt.Sprintf("identity_servers.allow[%d]", n), "%q is not the name of a server: it is a host name, with :port if need be, as identity.example.org", name)
		}
	}
	if i.CAFile != "" {
		readable(r, "identity_servers.ca_file", i.CAFile)
	}
}

// validateClosed sees to it that nobody believes to be among themselves who is not.
func (f *Federation) validateClosed(r *report) {
	for i, text := range f.Allow {
		if fault := serversFault(text); fault != "" {
			r.add(fmt.Sprintf("federation.allow[%d]", i), "%s", fault)
		}
	}
	for id, key := range f.List.Keys {
		validateKeyID(r, "federation.list.keys."+id, id)
		validateVerifyKey(r, "federation.list.keys."+id, key)
	}
	switch {
	case !f.Closed && len(f.Allow) > 0:
		r.add("federation.allow", "has no effect while federation.closed is false")
	case !f.Closed && f.List.Path != "":
		r.add("federation.list.path", "has no effect while federation.closed is false")
	case f.Closed && len(f.Allow) == 0 && f.List.Path == "":
		r.add("federation.closed", "admits nobody while neither federation.allow nor federation.list.path is set; "+
			"to speak with no server at all, set federation.enabled to false")
	case f.List.Path != "" && len(f.List.Keys) == 0:
		r.add("federation.list.keys", "is missing: without the authority's keys nobody can tell whose the list is")
	case f.List.Path == "" && len(f.List.Keys) > 0:
		r.add("federation.list.path", "is missing")
	}
}

// serversFault says why the text stands for no servers; empty when it does.
func serversFault(text string) string {
	name, under := strings.CutPrefix(text, "*.")
	host := name
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, ']') {
		host = name[:colon]
	}
	labels := strings.Split(host, ".")
	if !matrix.ValidServerName(name) || slices.Contains(labels, "") {
		return fmt.Sprintf("%q is neither a server name, as example.org, nor all names under one, as \"*.example.org\"", text)
	}
	if last := labels[len(labels)-1]; under && (host[0] == '[' || strings.Trim(last, "0123456789") == "") {
		return fmt.Sprintf("%q: there are no names under an IP address", text)
	}
	return ""
}

var keyVersion = regexp.MustCompile(`^[a-zA-Z0-9_]{1,64}$`)

// validateKeyID checks the id of a key, in which ed25519: is left out.
func validateKeyID(r *report, key, id string) {
	if !keyVersion.MatchString(id) {
		r.add(key, "the id of a key has 1 to 64 letters, digits and underscores, not %q", id)
	}
}

func validateVerifyKey(r *report, key, text string) {
	if _, err := matrix.DecodeVerifyKey(text); err != nil {
		r.add(key, "expected an ed25519 public key, 43 characters of base64: %v", err)
	}
}

func (k *OldVerifyKey) validate(r *report, key string) {
	id, found := strings.CutPrefix(k.ID, "ed25519:")
	if !found {
		r.add(key+".id", "expected the id of a key, as ed25519:a_1, not %q", k.ID)
	}
	validateKeyID(r, key+".id", id)
	validateVerifyKey(r, key+".key", k.Key)
	if k.Expired.IsZero() {
		r.add(key+".expired", "is missing")
	}
}

func (w *WellKnown) validate(r *report) {
	if w.Server != "" && !matrix.ValidServerName(w.Server) {
		r.add("well_known.server", "expected host and port, as matrix.example.org:443, not %q", w.Server)
	}
	if _, taken := w.Client["m.homeserver"]; taken {
		r.add("well_known.client.m.homeserver", "is made from public_base_url")
	}
	if w.Support.Page != "" {
		validateURL(r, "well_known.support.page", w.Support.Page)
	}
	for i, contact := range w.Support.Contacts {
		key := fmt.Sprintf("well_known.support.contacts[%d]", i)
		if contact.Role == "" {
			r.add(key+".role", "is missing; m.role.admin fits most")
		}
		if contact.MatrixID == "" && contact.EmailAddress == "" {
			r.add(key, "needs matrix_id or email_address")
		}
		if contact.MatrixID != "" && !matrix.ValidUserID(contact.MatrixID) {
			r.add(key+".matrix_id", "expected a user ID, as @admin:example.org, not %q", contact.MatrixID)
		}
	}
}

func validateURL(r *report, key, text string) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" && key == "public_base_url" {
		r.add(key, "expected an address as https://example.org, not %q", text)
	}
}

func oneOf(r *report, key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		r.add(key, "expected %s, not %q", strings.Join(allowed, ", "), value)
	}
}

// authorities reports a file that has no certificates.
func authorities(r *report, key, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		r.add(key, "cannot be read: %v", err)
	} else if !x509.NewCertPool().AppendCertsFromPEM(text) {
		r.add(key, "%s has no certificate in PEM", path)
	}
}

func readable(r *report, key, path string) {
	if path == "" {
		r.add(key, "is missing")
		return
	}
	file, err := os.Open(path)
	if err != nil {
		r.add(key, "cannot be read: %v", err)
		return
	}
	file.Close()
}
