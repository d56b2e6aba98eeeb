package tests

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"testing"

	"beep/matrix"
	"beep/tests/harness"
)

// signer is a key that signs: of a device, or for cross-signing.
type signer struct {
	t       testing.TB
	userID  string
	name    string // without ed25519:
	public  string
	private ed25519.PrivateKey
}

// newSigner makes a key, which is called as its public key unless it has a name.
func newSigner(t testing.TB, userID, name string) *signer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawStdEncoding.EncodeToString(public)
	if name == "" {
		name = text
	}
	return &signer{t, userID, name, text, private}
}

// sign gives an object with the signature and no other.
func (s *signer) sign(o object) object {
	s.t.Helper()
	bare := object{}
	for key, value := range o {
		if key != "signatures" && key != "unsigned" {
			bare[key] = value
		}
	}
	text, err := json.Marshal(bare)
	if err != nil {
		s.t.Fatal(err)
	}
	if text, err = matrix.CanonicalJSON(text, true); err != nil {
		s.t.Fatal(err)
	}
	signature := base64.RawStdEncoding.EncodeToString(ed25519.Sign(s.private, text))
	bare["signatures"] = object{s.userID: object{"ed25519:" + s.name: signature}}
	return bare
}

func (s *signer) key(usage string) object {
	return object{"user_id": s.userID, "usage": list{usage}, "keys": object{"ed25519:" + s.public: s.public}}
}

// identity are a user's cross-signing keys and the key of the device.
type identity struct {
	*harness.Client
	device, master, self, user *signer
}

func newIdentity(t testing.TB, c *harness.Client) *identity {
	i := &identity{c, newSigner(t, c.UserID, c.DeviceID), newSigner(t, c.UserID, ""), newSigner(t, c.UserID, ""), newSigner(t, c.UserID, "")}
	upload(c, object{"device_keys": i.device.sign(i.deviceKeys())}).OK()
	return i
}

func (i *identity) deviceKeys() object {
	return object{"user_id": i.UserID, "device_id": i.DeviceID, "algorithms": list{"m.olm.v1.curve25519-aes-sha2"},
		"keys": object{"ed25519:" + i.DeviceID: i.device.public}}
}

func (i *identity) crossSigning() object {
	return object{"master_key": i.master.key("master"), "self_signing_key": i.master.sign(i.self.key("self_signing")),
		"user_signing_key": i.master.sign(i.user.key("user_signing"))}
}

const crossSigning, signatures = "/v3/keys/device_signing/upload", "/v3/keys/signatures/upload"

func TestCrossSigningKeys(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := newIdentity(t, srv.Register(t, "alice")), srv.Register(t, "bob")
		alice.PublicRoom(bob)
		bob.Sync()
		other := newSigner(t, alice.UserID, "")
		alice.Post(crossSigning, object{"self_signing_key": alice.master.sign(alice.self.key("self_signing"))}).Fails(400, "M_MISSING_PARAM")
		wrong := alice.crossSigning()
		wrong["self_signing_key"] = other.sign(alice.self.key("self_signing"))
		alice.Post(crossSigning, wrong).Fails(400, "M_INVALID_SIGNATURE")
		foreign := newSigner(t, bob.UserID, "")
		alice.Post(crossSigning, object{"master_key": foreign.key("master")}).Fails(400, "M_BAD_JSON")
		alice.Post(crossSigning, object{"master_key": alice.master.key("self_signing")}).Fails(400, "M_BAD_JSON")

		alice.Post(crossSigning, alice.crossSigning()).OK() // the first need no password
		bob.SyncUntil("the change", func(r *harness.Response) bool { return inDeviceList(r, "changed", alice.Client) })
		alice.Post(crossSigning, alice.crossSigning()).OK() // nor do the same again
		for _, asker := range []*harness.Client{alice.Client, bob} {
			r := queryDevices(asker, alice.Client)
			if !r.At("master_keys", alice.UserID, "keys", "ed25519:"+alice.master.public).Exists() ||
				!r.At("self_signing_keys", alice.UserID, "signatures", alice.UserID, "ed25519:"+alice.master.public).Exists() ||
				r.At("user_signing_keys", alice.UserID).Exists() != (asker == alice.Client) {
				t.Errorf("%s sees %s", asker.UserID, r.Body)
			}
		}
		replaced := newIdentity(t, alice.Client).crossSigning()
		if r := alice.Post(crossSigning, replaced); r.Status != 401 {
			t.Errorf("to replace the keys without a password: %d %s", r.Status, r.Body)
		}
		if r := queryDevices(bob, alice.Client); !r.At("master_keys", alice.UserID, "keys", "ed25519:"+alice.master.public).Exists() {
			t.Errorf("the keys were replaced: %s", r.Body)
		}
		alice.Prove("POST", crossSigning, replaced).OK()
		if r := queryDevices(bob, alice.Client); r.At("master_keys", alice.UserID, "keys", "ed25519:"+alice.master.public).Exists() {
			t.Errorf("the keys were not replaced: %s", r.Body)
		}
	})
}

// No device is called as a cross-signing key is.
func TestIDsOfKeysAndDevices(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := newIdentity(t, srv.Register(t, "alice"))
		alice.Login(object{"device_id": alice.master.public})
		alice.Post(crossSigning, alice.crossSigning()).Fails(403, "M_FORBIDDEN")
		bob := newIdentity(t, srv.Register(t, "bob"))
		bob.Post(crossSigning, bob.crossSigning()).OK()
		login := harness.PasswordLogin(bob.UserID, bob.Password, object{"device_id": bob.self.public})
		srv.Client(t).Post("/v3/login", login).Fails(400, "M_INVALID_PARAM")
	})
}

func TestSignatures(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := newIdentity(t, srv.Register(t, "alice")), newIdentity(t, srv.Register(t, "bob"))
		alice.PublicRoom(bob.Client)
		for _, i := range []*identity{alice, bob} {
			i.Post(crossSigning, i.crossSigning()).OK()
			i.Sync()
		}
		upload := func(i *identity, userID, keyID string, o object) string {
			t.Helper()
			return i.Post(signatures, object{userID: object{keyID: o}}).OK().At("failures", userID, keyID, "errcode").Str()
		}
		changed := alice.deviceKeys()
		changed["algorithms"] = list{"other"}
		for name, test := range map[string]struct {
			userID, keyID string
			object        object
			want          string
		}{
			"wrong key":                 {alice.UserID, alice.DeviceID, alice.user.sign(alice.deviceKeys()), "M_INVALID_SIGNATURE"},
			"another object":            {alice.UserID, alice.DeviceID, alice.self.sign(changed), "M_INVALID_PARAM"},
			"no signature":              {alice.UserID, alice.DeviceID, alice.deviceKeys(), "M_INVALID_SIGNATURE"},
			"unknown device":            {alice.UserID, "UNKNOWN", alice.self.sign(alice.deviceKeys()), "M_NOT_FOUND"},
			"device of another":         {bob.UserID, bob.DeviceID, alice.user.sign(bob.deviceKeys()), "M_NOT_FOUND"},
			"others' key by a device":   {bob.UserID, bob.master.public, alice.device.sign(bob.master.key("master")), "M_INVALID_SIGNATURE"},
			"signature of another user": {alice.UserID, alice.DeviceID, bob.self.sign(alice.deviceKeys()), "M_INVALID_SIGNATURE"},
		} {
			if got := upload(alice, test.userID, test.keyID, test.object); got != test.want {
				t.Errorf("%s: %q", name, got)
			}
		}
		if r := queryDevices(bob.Client, alice.Client); len(r.At("device_keys", alice.UserID, alice.DeviceID, "signatures", alice.UserID).Keys()) != 1 {
			t.Errorf("a refused signature was stored: %s", r.Body)
		}
		// Of a device by the self-signing key, and of the master key by the device.
		r := alice.Post(signatures, object{alice.UserID: object{
			alice.DeviceID: alice.self.sign(alice.deviceKeys()), alice.master.public: alice.device.sign(alice.master.key("master")),
		}}).OK()
		if len(r.At("failures").Keys()) != 0 {
			t.Fatalf("failures %s", r.Body)
		}
		bob.SyncUntil("the change", func(r *harness.Response) bool { return inDeviceList(r, "changed", alice.Client) })
		r = queryDevices(bob.Client, alice.Client)
		if len(r.At("device_keys", alice.UserID, alice.DeviceID, "signatures", alice.UserID).Keys()) != 2 ||
			!r.At("master_keys", alice.UserID, "signatures", alice.UserID, "ed25519:"+alice.DeviceID).Exists() {
			t.Errorf("bob sees %s", r.Body)
		}
		// Of another's master key by the user-signing key, which nobody else sees.
		bob.Sync()
		alice.Sync()
		if got := upload(alice, bob.UserID, bob.master.public, alice.user.sign(bob.master.key("master"))); got != "" {
			t.Fatalf("failure %q", got)
		}
		alice.SyncUntil("bob's change", func(r *harness.Response) bool { return inDeviceList(r, "changed", bob.Client) })
		if !queryDevices(alice.Client, bob.Client).At("master_keys", bob.UserID, "signatures", alice.UserID).Exists() {
			t.Error("alice does not see her signature")
		}
		if queryDevices(bob.Client, bob.Client).At("master_keys", bob.UserID, "signatures", alice.UserID).Exists() {
			t.Error("bob sees what alice has signed")
		}
		if r := bob.Sync(); r.At("device_lists").Exists() {
			t.Errorf("bob is told of it: %s", r.At("device_lists"))
		}
	})
}
