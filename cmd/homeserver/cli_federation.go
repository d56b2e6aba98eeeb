package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"go.yaml.in/yaml/v3"

	"beep/config"
	"beep/federation/allow"
	"beep/matrix"
)

// federationListCommands are the commands of whoever publishes, or uses, the signed list of
// a closed federation. They need no running server.
type federationListCommands struct {
	Keygen keygenCommand    `cmd:"" help:"Make the key that lists are signed with."`
	Entry  listEntryCommand `cmd:"" help:"Print a server's own entry for the list."`
	Sign   signListCommand  `cmd:"" help:"Sign a list of servers."`
	Show   showListCommand  `cmd:"" help:"Check a signed list and print it."`
}

// Help serves kong.
func (*federationListCommands) Help() string {
	return `A closed federation is one where servers speak only with the servers of a list. The list
is a file that a central authority signs. It makes its key once (keygen), collects the entries of all
servers (entry), signs them (sign) and hands the file to every server, which checks it (show) and
follows it from then on. docs/federation-closed.md tells the whole of it.

Example:

    homeserver federation-list sign --key list.key --in servers.yaml --out list.jws --serial 1 --expires 30d`
}

type keygenCommand struct {
	Out string `default:"federation-list.key" placeholder:"FILE" help:"Where to write the private key (default: federation-list.key). A file that is there is kept."`
	ID  string `placeholder:"ID" help:"The key's id: letters, digits and underscores. Without it one is made."`
}

// Help serves kong.
func (*keygenCommand) Help() string {
	return `Makes the ed25519 key that an authority signs its lists with, and prints what every server
has to put into its configuration. Whoever has the file can decide who takes part: make it on a machine
without a network, and keep a copy in another place.

Examples:

    homeserver federation-list keygen
    homeserver federation-list keygen --id list_2026 --out /media/safe/list_2026.key

Files:

    federation-list.key      the private key; --out names another`
}

// Run serves kong.
func (c *keygenCommand) Run(t terminal) error {
	if c.ID == "" {
		c.ID = "list_" + rand.Text()[:8]
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("ed25519 %s %s\n", c.ID, base64.RawStdEncoding.EncodeToString(private.Seed()))
	if !signingKeyForm.MatchString(strings.TrimSpace(text)) || len(c.ID) > 64 {
		return fmt.Errorf("the id of a key has 1 to 64 letters, digits and underscores, not %q", c.ID)
	}
	if _, err := os.Lstat(c.Out); err == nil {
		return fmt.Errorf("%s is there already, and without it lists can never be signed again by that key; give --out", c.Out)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeFile(c.Out, text); err != nil {
		return err
	}
	fmt.Fprintf(t.out, `The private key is in %s. Keep it secret, and keep a copy.

Every server has in its configuration:

federation:
  closed: true
  list:
    path: federation-list.jws
    keys: {%s: %s}
`, c.Out, c.ID, base64.RawStdEncoding.EncodeToString(public))
	return nil
}

// readPrivateKey reads a key's file. Unlike [readSigningKey] it makes none.
func readPrivateKey(path string) (id string, key ed25519.PrivateKey, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", nil, fmt.Errorf("cannot read the key: %w", err)
	}
	match := signingKeyForm.FindStringSubmatch(strings.TrimSpace(string(text)))
	if match == nil {
		return "", nil, fmt.Errorf("the key in %s has not the form: ed25519 ID SEED-IN-BASE64", path)
	}
	seed, err := base64.RawStdEncoding.DecodeString(match[2])
	if err != nil {
		return "", nil, fmt.Errorf("the key in %s is damaged", path)
	}
	return match[1], ed25519.NewKeyFromSeed(seed), nil
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey {
	return ed25519.PublicKey(key[ed25519.SeedSize:])
}

type listEntryCommand struct {
	Comment string `placeholder:"TEXT" help:"Who the server belongs to."`
	place   `embed:""`
}

// Help serves kong.
func (*listEntryCommand) Help() string {
	return `Prints the entry of this server for the authority's list: its name and its public keys, the
one that it signs with and those of federation.old_verify_keys. The authority pins these: nobody
else can speak in the server's name, not even who has taken over its address. So they are to be handed
over in a way that can be trusted.

The keys are read from the signing key's file; the server may run meanwhile.

Examples:

    homeserver federation-list entry --comment "Ministry of Interior"
    homeserver federation-list entry --config /etc/homeserver.yaml > moi.yaml`
}

// Run serves kong.
func (c *listEntryCommand) Run(t terminal) error {
	cfg, err := c.load(nil)
	if err != nil {
		return err
	}
	if cfg.ServerName == "" {
		return errors.New("the configuration has no server_name; give --server-name")
	}
	id, key, err := readPrivateKey(cfg.SigningKey.Path)
	if err != nil {
		return err
	}
	entry := allow.Server{Name: cfg.ServerName, Comment: c.Comment, Keys: map[string]string{}}
	for _, old := range cfg.Federation.OldVerifyKeys {
		entry.Keys[old.ID] = old.Key
	}
	entry.Keys["ed25519:"+id] = base64.RawStdEncoding.EncodeToString(publicOf(key))
	return writeYAML(t.out, []allow.Server{entry})
}

func writeYAML(out io.Writer, value any) error {
	encoder := yaml.NewEncoder(out)
	encoder.SetIndent(2)
	return errors.Join(encoder.Encode(value), encoder.Close())
}

type signListCommand struct {
	Key     string   `required:"" placeholder:"FILE" help:"The private key, as keygen has made it."`
	In      string   `required:"" placeholder:"FILE" help:"The servers, in YAML or JSON."`
	Out     string   `required:"" placeholder:"FILE" help:"Where to write the signed list. A file that is there is replaced."`
	Serial  int64    `required:"" placeholder:"N" help:"The list's number: one more than that of the last list."`
	Expires lifetime `required:"" placeholder:"TIME" help:"How long the list holds, as 30d or 12h."`
}

// Help serves kong.
func (*signListCommand) Help() string {
	return `Signs a list of servers. Servers take it only if its serial is higher than that of every list
that they have seen, so a server that was taken off the list cannot bring it back. When a list has
expired, its servers are refused until there is a new one: sign the next long before.

The file with the servers has names, and for each server, if you like, the keys that it may sign with,
and a comment:

    servers:
      - name: moi.gov.pk
        keys: {"ed25519:a_1": 6Nvm3BmsmttMvmvkqok9eRa8//MaJvZ6tzZ004xCVuA}
        comment: Ministry of Interior
      - name: nadra.gov.pk:8448

Examples:

    homeserver federation-list sign --key list.key --in servers.yaml --out list.jws --serial 1 --expires 30d`
}

// lifetime is a duration, as 30d.
type lifetime time.Duration

// UnmarshalText serves kong.
func (l *lifetime) UnmarshalText(text []byte) error {
	d, err := config.ParseDuration(string(text))
	*l = lifetime(d)
	return err
}

// Run serves kong.
func (c *signListCommand) Run(t terminal) error {
	id, key, err := readPrivateKey(c.Key)
	if err != nil {
		return err
	}
	servers, err := readServers(c.In)
	if err != nil {
		return err
	}
	if err := c.isNext(id, key); err != nil {
		return err
	}
	now := time.Now()
	list := &allow.Document{
		Version: 1, Serial: c.Serial, Issued: now.UnixMilli(), Expires: now.Add(time.Duration(c.Expires)).UnixMilli(),
		Servers: servers, KeyID: id,
	}
	text, err := list.Sign(key)
	if err != nil {
		return fmt.Errorf("nothing was signed: %w", err)
	}
	if err := writeFile(c.Out, string(text)); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "%s has been signed with %s: serial %d, servers %s, holds until %s.\n",
		c.Out, id, c.Serial, countServers(servers), moment(list.Expires))
	return nil
}

// isNext refuses a serial that every server would refuse, as far as the list that is
// replaced tells.
func (c *signListCommand) isNext(id string, key ed25519.PrivateKey) error {
	last, err := readList(c.Out, map[string]ed25519.PublicKey{id: publicOf(key)})
	if err == nil && last.Serial >= c.Serial {
		return fmt.Errorf("%s has the serial %d; the next list needs a higher one", c.Out, last.Serial)
	}
	return nil
}

func readServers(path string) ([]allow.Server, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the servers: %w", err)
	}
	var in struct {
		Servers []allow.Server `yaml:"servers"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text)) // JSON is YAML too
	decoder.KnownFields(true)
	if err := decoder.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s has more than one document", path)
	}
	return in.Servers, nil
}

// readList reads no more of a signed list than one may have.
func readList(path string, keys map[string]ed25519.PublicKey) (*allow.Document, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, allow.MaxFile+1))
	if err != nil {
		return nil, err
	}
	return allow.Read(text, keys)
}

func countServers(servers []allow.Server) string {
	pinned := 0
	for _, s := range servers {
		if s.Keys != nil {
			pinned++
		}
	}
	return fmt.Sprintf("%d (%d with pinned keys)", len(servers), pinned)
}

// moment is a time in ms as people write it.
func moment(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

type showListCommand struct {
	File       string            `arg:"" optional:"" help:"The signed list. Without it: federation.list.path of the configuration."`
	PublicKeys map[string]string `name:"public-key" placeholder:"ID=KEY" help:"The authority's public key, as keygen has printed it. Without it: federation.list.keys of the configuration."`
	place      `embed:""`
}

// Help serves kong.
func (*showListCommand) Help() string {
	return `Checks that a list is signed by the authority, and prints it. Ends with exit code 1 if it is
not, or if it has expired.

Examples:

    homeserver federation-list show
    homeserver federation-list show new.jws
    homeserver federation-list show list.jws --public-key list_1=jFWSyXVJfwfZy5tC6cUr/ICkmKiOvMpJLCVr8Ac6K7k`
}

// Run serves kong.
func (c *showListCommand) Run(ctx context.Context, t terminal) error {
	keys := c.PublicKeys
	if c.File == "" || len(keys) == 0 {
		cfg, err := c.load(nil)
		if err != nil {
			return err
		}
		c.File = orElse(c.File, cfg.Federation.List.Path)
		if len(keys) == 0 {
			keys = cfg.Federation.List.Keys
		}
	}
	if c.File == "" || len(keys) == 0 {
		return errors.New("the configuration has no federation.list; give the file and --public-key")
	}
	public := map[string]ed25519.PublicKey{}
	for id, text := range keys {
		key, err := matrix.DecodeVerifyKey(text)
		if err != nil {
			return fmt.Errorf("the public key %s: %w", id, err)
		}
		public[id] = key
	}
	list, err := readList(c.File, public)
	if err != nil {
		return err
	}
	return show(t.out, list)
}

// show prints a list whose signature is right.
func show(out io.Writer, list *allow.Document) error {
	fmt.Fprintf(out, "Signed by  %s\nSerial     %d\nIssued     %s\nExpires    %s\nServers    %s\n",
		list.KeyID, list.Serial, moment(list.Issued), moment(list.Expires), countServers(list.Servers))
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range list.Servers {
		fmt.Fprintf(table, "\n%s", s.Name)
		if s.Comment != "" {
			fmt.Fprintf(table, "\t%s", s.Comment)
		}
		for _, id := range slices.Sorted(maps.Keys(s.Keys)) {
			fmt.Fprintf(table, "\n  %s\t%s", id, s.Keys[id])
		}
	}
	fmt.Fprintln(table)
	if err := table.Flush(); err != nil {
		return err
	}
	if time.Now().UnixMilli() >= list.Expires {
		return errors.New("the list has expired")
	}
	return nil
}
