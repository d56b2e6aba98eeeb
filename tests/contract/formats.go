package contract

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var (
	serverName = regexp.MustCompile(`^([0-9A-Za-z.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)
	mediaID    = regexp.MustCompile(`^[0-9A-Za-z_-]+$`)
)

// formats are the specification's own string formats (appendices: identifier grammar).
func formats() []*jsonschema.Format {
	text := func(name string, check func(string) error) *jsonschema.Format {
		return &jsonschema.Format{Name: name, Validate: func(v any) error {
			if s, ok := v.(string); ok {
				return check(s)
			}
			return nil
		}}
	}
	return []*jsonschema.Format{
		text("mx-server-name", isServerName),
		text("mx-user-id", func(s string) error { return isIdentifier(s, '@', true) }),
		text("mx-room-alias", func(s string) error { return isIdentifier(s, '#', true) }),
		text("mx-room-id", func(s string) error { return isIdentifier(s, '!', false) }),
		text("mx-event-id", func(s string) error { return isIdentifier(s, '$', false) }),
		text("mx-mxc-uri", isMXC),
		text("mx-unpadded-base64", func(s string) error { return isBase64(s, base64.RawStdEncoding) }),
		text("mx-urlsafe-unpadded-base64", func(s string) error { return isBase64(s, base64.RawURLEncoding) }),
	}
}

func isServerName(s string) error {
	if !serverName.MatchString(s) {
		return fmt.Errorf("not a host with an optional port")
	}
	return nil
}

// isIdentifier checks the common grammar. Room and event identifiers carry a server name only in some room versions.
func isIdentifier(s string, sigil byte, needsServer bool) error {
	if len(s) < 2 || s[0] != sigil {
		return fmt.Errorf("does not begin with %q", sigil)
	}
	if len(s) > 255 {
		return fmt.Errorf("is %d bytes long", len(s))
	}
	_, server, ok := strings.Cut(s, ":")
	if !ok {
		if needsServer {
			return fmt.Errorf("has no server name")
		}
		return nil
	}
	return isServerName(server)
}

func isMXC(s string) error {
	rest, ok := strings.CutPrefix(s, "mxc://")
	server, id, slash := strings.Cut(rest, "/")
	if !ok || !slash || !mediaID.MatchString(id) {
		return fmt.Errorf("not mxc://server/media-id")
	}
	return isServerName(server)
}

func isBase64(s string, encoding *base64.Encoding) error {
	_, err := encoding.DecodeString(s)
	return err
}
