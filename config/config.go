package config

import (
	"time"
)

// Config is everything that an operator can choose. [Default] gives the value
// of each key, [Load] reads a file.
type Config struct {
	// The name at the end of every user ID and room alias of this server, as in
	// @alice:example.org. It cannot be changed once the server has been started:
	// it is part of every event. Empty: the name that this data directory was
	// first started with, or localhost when it is new.
	ServerName string `yaml:"server_name"`

	// The address that clients use to reach this server, as
	// https://matrix.example.org. It is told to clients at
	// /.well-known/matrix/client and stands in the pages that the server shows.
	// Empty: https:// and the server name; for localhost the first listener.
	PublicBaseURL string `yaml:"public_base_url"`

	// The directory of everything that the server writes: the SQLite database, the
	// signing key, the secrets that it made itself, the files that users share, the
	// control socket. Relative paths, here and below, are relative to the directory
	// of this file.
	Data string `yaml:"data"`

	// Where the server accepts connections; any number of addresses.
	Listeners []Listener `yaml:"listeners"`

	// Addresses of reverse proxies (single ones or networks, as 10.0.0.0/8). A
	// request that comes from one of them counts for the address that its
	// X-Forwarded-For names. Connections over a unix socket are always trusted.
	TrustedProxies []Network `yaml:"trusted_proxies"`

	// Where users, rooms and events are stored.
	Database Database `yaml:"database"`

	// The key that signs events and requests in this server's name.
	SigningKey SigningKey `yaml:"signing_key"`

	// Who may make an account.
	Registration Registration `yaml:"registration"`

	// Sessions and their tokens.
	Login Login `yaml:"login"`

	// What new rooms are like.
	Rooms Rooms `yaml:"rooms"`

	// Who is online.
	Presence Presence `yaml:"presence"`

	// Other servers: with which this one speaks, and how it reaches them.
	Federation Federation `yaml:"federation"`

	// Identity servers: who is asked which user has a mail address or telephone number.
	IdentityServers IdentityServers `yaml:"identity_servers"`

	// Files that users share: their own, and those of other servers.
	Media Media `yaml:"media"`

	// What one client may ask of the server.
	Limits Limits `yaml:"limits"`

	// What the server answers at /.well-known/matrix/ so that clients, other
	// servers and people find what they look for.
	WellKnown WellKnown `yaml:"well_known"`

	// Figures for Prometheus, and health checks.
	Metrics Metrics `yaml:"metrics"`

	// What the server writes to its standard error.
	Logging Logging `yaml:"logging"`

	// Switches for test beds. Each takes away a protection: none of them may be on
	// for a server that people use. The server names those that are on
	// each time it starts.
	Unsafe Unsafe `yaml:"unsafe"`

	// File is the path of the file that the configuration was read from; empty
	// when there was none.
	File string `yaml:"-"`
}

// Listener is one address that accepts connections.
type Listener struct {
	// IP address and port, as 127.0.0.1:8008 or [::]:8448, or a unix socket, as
	// unix:/run/homeserver.sock.
	Address string `yaml:"address"`

	// The permissions of a unix socket, in octal. Empty: "0660".
	Mode FileMode `yaml:"mode,omitempty"`

	// Certificate and key for TLS; without them the listener speaks plain HTTP.
	// The files are read again when they change.
	TLS *TLS `yaml:"tls,omitempty"`
}

// TLS names a certificate.
type TLS struct {
	// The file of the certificate chain, in PEM.
	Certificate string `yaml:"certificate"`

	// The file of the private key, in PEM.
	Key string `yaml:"key"`

	// A file of certificates, in PEM. With it whoever connects has to show a
	// certificate that the owner of one of them has issued (mutual TLS): for the
	// listener that other servers of a closed federation use; theirs is
	// federation.client_certificate. People's clients need another listener. Empty:
	// everybody may connect.
	ClientCA string `yaml:"client_ca,omitempty"`
}

// Database says which engine stores the server's data.
type Database struct {
	// sqlite:/path/to/file.db, or postgres://user:password@host/name. A URL that
	// holds a password is better kept in a file or in the environment:
	// {file: /path}, {env: NAME}. Not set: SQLite in the file homeserver.db of the
	// data directory.
	URL Secret `yaml:"url"`

	// How many connections to PostgreSQL may be open at once. 0: ten.
	MaxConnections int `yaml:"max_connections"`
}

// SigningKey says where the server's ed25519 key is.
type SigningKey struct {
	// The file of the key: one line with ed25519, the key's ID and the seed in
	// base64. It is made when it does not exist; a key that is publicly known is
	// refused. Empty: the file signing.key of the data directory.
	Path string `yaml:"path"`
}

// Registration says who may make an account.
type Registration struct {
	// Whether anybody may register. Without it an administrator makes the
	// accounts, with `homeserver user create`.
	Open bool `yaml:"open"`

	// Whether registering (when it is open) takes a registration token, which
	// an administrator hands out.
	TokenRequired bool `yaml:"token_required"`

	// Whether people may look at rooms that allow it without an account.
	Guests bool `yaml:"guests"`

	// The secret with which a script may make accounts, at
	// /_synapse/admin/v1/register. At least 16 characters. Not set: one is made in
	// the file secrets/registration_shared_secret of the data directory.
	SharedSecret Secret `yaml:"shared_secret"`

	// How many characters a password must have.
	PasswordMinLength int `yaml:"password_min_length"`

	// Documents that a person must accept to register. An example:
	//
	//	terms:
	//	  - name: privacy_policy
	//	    version: "1.0"
	//	    languages:
	//	      en: {name: Privacy policy, url: https://example.org/privacy}
	Terms []Terms `yaml:"terms"`
}

// Terms is one document to accept.
type Terms struct {
	// The document's name for programs: letters, digits, underscores, hyphens.
	Name string `yaml:"name"`

	// Its version. A new version is a new document, which must be accepted again.
	Version string `yaml:"version"`

	// For each language (as en, ur) the title and the address of the text.
	Languages map[string]TermsText `yaml:"languages"`
}

// TermsText is a document in one language.
type TermsText struct {
	// The title that people see.
	Name string `yaml:"name"`

	// The address of the text.
	URL string `yaml:"url"`
}

// Login is about sessions.
type Login struct {
	// How long an access token works for a client that can refresh it. Clients
	// that cannot keep theirs until they log out.
	AccessTokenLifetime time.Duration `yaml:"access_token_lifetime"`

	// How long the token works with which a logged-in client hands its session to
	// another one (m.login.token).
	LoginTokenLifetime time.Duration `yaml:"login_token_lifetime"`
}

// Rooms is about new rooms.
type Rooms struct {
	// The room version of a new room whose creator asks for none: "1" to "12".
	DefaultVersion string `yaml:"default_version"`
}

// Presence is about who is online.
type Presence struct {
	// Whether users see who of the people they share a room with is online.
	Enabled bool `yaml:"enabled"`
}

// Federation is about other servers.
type Federation struct {
	// Whether this server speaks with other servers at all.
	Enabled bool `yaml:"enabled"`

	// Whether it speaks only with the servers that allow names and those of the
	// signed list; docs/federation-closed.md tells how a country or a company runs
	// such a federation. All others are refused, whoever begins.
	Closed bool `yaml:"closed"`

	// The servers of a closed federation, by server name; with another port it is
	// another server. "*.example.org" (in quotes) is every name under example.org,
	// however deep, and not example.org itself. Case does not count.
	Allow []string `yaml:"allow"`

	// A list of servers that a central authority signs and publishes as a file. It
	// counts beside allow.
	List FederationList `yaml:"list"`

	// Servers that are believed about the keys of others. Usually there are none:
	// every server is asked for its own keys.
	TrustedNotaries []string `yaml:"trusted_notaries"`

	// Networks that requests to other servers may reach although they are private
	// (single addresses or networks, as 10.20.0.0/16). Requests to all other private
	// addresses are refused, whatever a name resolves to.
	AllowedNetworks []Network `yaml:"allowed_networks"`

	// A file of certificates, in PEM, whose owners may vouch for other servers, beside
	// those whom the system trusts: a private authority of the federation.
	CAFile string `yaml:"ca_file"`

	// The file of the certificate chain, in PEM, that is shown to servers that ask
	// for one (mutual TLS). Empty: none.
	ClientCertificate string `yaml:"client_certificate"`

	// The file of the private key of client_certificate, in PEM.
	ClientKey string `yaml:"client_key"`

	// Public keys that this server signed with before signing_key, so that others can
	// check what it said then. An example:
	//
	//	old_verify_keys:
	//	  - {id: "ed25519:a_1", key: 6Nvm3BmsmttMvmvkqok9eRa8//MaJvZ6tzZ004xCVuA, expired: 2026-01-31T12:00:00Z}
	OldVerifyKeys []OldVerifyKey `yaml:"old_verify_keys"`
}

// FederationList says where the signed list of a closed federation is.
type FederationList struct {
	// The file, as `homeserver federation-list sign` makes it. It is read again when it
	// changes; one that cannot be used leaves the last good one in force. Empty: there
	// is no such list.
	Path string `yaml:"path"`

	// The authority's public keys, ed25519 in base64, by their ids, as `homeserver
	// federation-list keygen` prints them. One of them must have signed the list. An
	// example:
	//
	//	keys: {list_1: jFWSyXVJfwfZy5tC6cUr/ICkmKiOvMpJLCVr8Ac6K7k}
	Keys map[string]string `yaml:"keys"`
}

// IdentityServers is about inviting people by their addresses.
type IdentityServers struct {
	// The identity servers that users may have asked, by name, with the port if it is
	// not 443, as identity.example.org. They get to know the address of whom a user
	// invites, with the names of the room and of the user; so no server is
	// asked that is not named here, and with none nobody can be invited by an address.
	Allow []string `yaml:"allow"`

	// Networks that requests to these servers may reach although they are private
	// (single addresses or networks, as 10.20.0.0/16).
	AllowedNetworks []Network `yaml:"allowed_networks"`

	// A file of certificates, in PEM, whose owners may vouch for these servers, beside
	// those whom the system trusts.
	CAFile string `yaml:"ca_file"`
}

// OldVerifyKey is a public key of former times.
type OldVerifyKey struct {
	// The key's id, as ed25519:a_1.
	ID string `yaml:"id"`

	// The public key in base64.
	Key string `yaml:"key"`

	// When it was last used, as 2026-01-31T12:00:00Z.
	Expired Time `yaml:"expired"`
}

// Media is about files that users share.
type Media struct {
	// The directory of the files, which nobody else may write into. Empty: the
	// directory media of the data directory. It belongs into every backup of the
	// database.
	Path string `yaml:"path"`

	// The largest file that a user may upload.
	MaxUpload Size `yaml:"max_upload"`

	// The largest file that is fetched from another server.
	MaxRemote Size `yaml:"max_remote"`

	// How much room the files of other servers may take, with their thumbnails. Those
	// that nobody has wanted for the longest time make room for others; they are
	// fetched again when somebody wants them.
	RemoteCache Size `yaml:"remote_cache"`

	// How much one user may upload in all. 0 B: no limit.
	UserQuota Size `yaml:"user_quota"`

	// How many files one user may upload in all. 0: no limit.
	UserFiles int `yaml:"user_files"`

	// The address of a page that tells people about the two limits above: clients that
	// know M_USER_LIMIT_EXCEEDED show it to whom has reached one. Empty: the answer is
	// M_FORBIDDEN.
	QuotaInfoURL string `yaml:"quota_info_url"`

	// How many addresses of files that are to be uploaded later one user may have.
	PendingUploads int `yaml:"pending_uploads"`

	// How long there is time to upload such a file.
	PendingLifetime time.Duration `yaml:"pending_lifetime"`

	// Whether files that come to this server from now on are given only to users who
	// are logged in and to servers that prove their names, as clients of today expect.
	// false is for old clients and bridges: whoever knows a file's address gets it, and
	// what was stored in that time stays open.
	Freeze bool `yaml:"freeze"`

	// The sizes in which thumbnails of images are made. A client gets the smallest one
	// that is not smaller than what it asks for, and the image itself if there is none.
	Thumbnails []ThumbnailSize `yaml:"thumbnails"`

	// The largest image of which thumbnails are made, in pixels. A thumbnail takes up to
	// 16 bytes of memory for each of them while it is made, all that are being made
	// together no more than the largest alone.
	MaxPixels int `yaml:"max_pixels"`
}

// ThumbnailSize is one size of thumbnails.
type ThumbnailSize struct {
	// The width in pixels.
	Width int `yaml:"width"`

	// The height in pixels.
	Height int `yaml:"height"`

	// crop fills the size and cuts off what is too much; scale keeps all of the image
	// within the size.
	Method string `yaml:"method"`
}

// Limits bounds what one client can cost.
type Limits struct {
	// The largest request body, as 1 MiB. Files and backups of keys have limits of their own.
	RequestBody Size `yaml:"request_body"`

	// How many connections one address (of IPv6 one /64) may hold open. Trusted
	// proxies and unix sockets are exempt. 0: no limit.
	ConnectionsPerAddress int `yaml:"connections_per_address"`

	// How often a user may do things of one kind: per_second on the long run,
	// burst at once. Who does more is told to wait (M_LIMIT_EXCEEDED).
	Rates Rates `yaml:"rates"`
}

// Rates has the rate limit of each kind of request.
type Rates struct {
	// Registering and asking whether a name is free, by address.
	Registration Rate `yaml:"registration,flow"`

	// Attempts to log in or to prove a password, by address and by account.
	Login Rate `yaml:"login,flow"`

	// Sending messages and state, by user.
	Message Rate `yaml:"message,flow"`

	// Creating, joining and knocking on rooms, by user.
	Join Rate `yaml:"join,flow"`

	// Inviting people, by user.
	Invite Rate `yaml:"invite,flow"`

	// What other servers ask and tell, by server. A transaction of up to 50 events
	// counts once.
	Federation Rate `yaml:"federation,flow"`

	// Uploading files, by user.
	Upload Rate `yaml:"upload,flow"`

	// Downloading files and thumbnails, by user (by address where nobody is logged in).
	Media Rate `yaml:"media,flow"`

	// Having files fetched from other servers, by user (by address where nobody is
	// logged in).
	RemoteMedia Rate `yaml:"remote_media,flow"`

	// Everything else, by user (by address where nobody is logged in).
	Other Rate `yaml:"other,flow"`
}

// Rate is a token bucket.
type Rate struct {
	// The rate on the long run.
	PerSecond float64 `yaml:"per_second"`

	// How many may come at once.
	Burst int `yaml:"burst"`
}

// WellKnown is what is served under /.well-known/matrix/.
type WellKnown struct {
	// Further keys of /.well-known/matrix/client, beside m.homeserver. An example:
	//
	//	client:
	//	  org.example.feature: {enabled: true}
	Client map[string]any `yaml:"client"`

	// Where other servers reach this one, host and port, as
	// matrix.example.org:443: the answer at /.well-known/matrix/server. Empty:
	// nothing is served there.
	Server string `yaml:"server"`

	// Who answers for this server: the answer at /.well-known/matrix/support.
	Support Support `yaml:"support"`
}

// Support is who answers for the server.
type Support struct {
	// The people. An example:
	//
	//	contacts:
	//	  - {role: m.role.admin, email_address: admin@example.org, matrix_id: "@admin:example.org"}
	Contacts []Contact `yaml:"contacts"`

	// The address of a page that helps.
	Page string `yaml:"page"`
}

// Contact is one person or office.
type Contact struct {
	// What for: m.role.admin, m.role.security, or a name of your own, as
	// org.example.role.
	Role string `yaml:"role" json:"role"`

	// Their Matrix user ID, on any server.
	MatrixID string `yaml:"matrix_id,omitempty" json:"matrix_id,omitempty"`

	// Their mail address.
	EmailAddress string `yaml:"email_address,omitempty" json:"email_address,omitempty"`
}

// Metrics is about figures.
type Metrics struct {
	// The address that serves /metrics and the checks /health/live, /health/ready
	// and /health/startup, as 127.0.0.1:9090 or unix:/run/metrics.sock. Everybody
	// who reaches it can read them. Empty: they are not served.
	Listen string `yaml:"listen"`
}

// Logging is about the log.
type Logging struct {
	// The least important that is written: debug, info, warn or error.
	Level string `yaml:"level"`

	// text for people, json for programs.
	Format string `yaml:"format"`
}

// Unsafe holds what only a test bed may switch on.
type Unsafe struct {
	// Nobody is ever told to wait: passwords can be guessed at full speed.
	NoRateLimits bool `yaml:"no_rate_limits"`

	// Passwords are hashed so that they cost nothing to test, also for a thief.
	CheapPasswordHashing bool `yaml:"cheap_password_hashing"`

	// A file of certificates, in PEM, whose owners may vouch for any other server.
	ExtraCAFile string `yaml:"extra_ca_file"`

	// Requests of this server may go to private addresses: strangers can make it
	// call services of the internal network.
	NoOutboundDenyList bool `yaml:"no_outbound_deny_list"`

	// PostgreSQL is accepted with fsync or synchronous_commit off: a power cut loses
	// what was acknowledged.
	UnsafeDurability bool `yaml:"unsafe_durability"`
}
