// Package xmatrix is the Authorization header with which servers sign their requests
// to each other (server-server API, section "Request Authentication"). It is pure.
package xmatrix

import (
	"errors"
	"fmt"
	"strings"

	"beep/matrix"
)

const (
	scheme = "X-Matrix"
	// maxHeader bounds the header, in bytes. Two server names of 230 bytes, a key's id
	// and a signature fit four times.
	maxHeader = 4 << 10
	// maxParameters bounds the parameters, known and unknown.
	maxParameters = 32
	// maxKeyID bounds the id of a key, in bytes.
	maxKeyID = 255
)

// ErrMissing is returned by [Parse] when there is no X-Matrix header at all.
var ErrMissing = errors.New("there is no X-Matrix authorization")

// ErrServerName is returned by [Parse] when what stands for a server's name can be none.
var ErrServerName = errors.New("is not a server name")

// Authorization is what the header says. Nothing in it is proven.
type Authorization struct {
	Origin      string // the server that sends the request
	Destination string // the server that it is for; "" from servers that do not say so
	Key         string // the id of the key, as "ed25519:a_1"
	Signature   string // in base64
}

// Message is what the signature covers. uri is the request's target, with the query,
// as it stands in the request; content is the body as canonical JSON, nil without one.
func (a *Authorization) Message(method, uri string, content []byte) []byte {
	out := make([]byte, 0, len(content)+len(uri)+256)
	out = append(out, '{')
	if content != nil {
		out = append(append(append(out, `"content":`...), content...), ',')
	}
	if a.Destination != "" {
		out = append(matrix.AppendString(append(out, `"destination":`...), a.Destination), ',')
	}
	out = matrix.AppendString(append(out, `"method":`...), method)
	out = matrix.AppendString(append(out, `,"origin":`...), a.Origin)
	out = matrix.AppendString(append(out, `,"uri":`...), uri)
	return append(out, '}')
}

// Sign is the header's value for a request to destination; the arguments are those of
// [Authorization.Message].
func Sign(signer *matrix.Signer, destination, method, uri string, content []byte) string {
	a := Authorization{Origin: signer.ServerName, Destination: destination, Key: signer.KeyID}
	a.Signature = signer.Sign(a.Message(method, uri, content))
	return a.String()
}

// String is the header's value. Nothing in server names, keys' ids and base64 needs
// escaping.
func (a *Authorization) String() string {
	text := scheme + ` origin="` + a.Origin + `",`
	if a.Destination != "" {
		text += `destination="` + a.Destination + `",`
	}
	return text + `key="` + a.Key + `",sig="` + a.Signature + `"`
}

// Parse reads the values of a request's Authorization headers. There has to be exactly
// one, with each parameter once; [ErrMissing] tells that there is none.
func Parse(headers []string) (*Authorization, error) {
	if len(headers) == 0 {
		return nil, ErrMissing
	}
	if len(headers) > 1 {
		return nil, errors.New("there is more than one Authorization header")
	}
	if len(headers[0]) > maxHeader {
		return nil, fmt.Errorf("the Authorization header has more than %d bytes", maxHeader)
	}
	name, rest, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(name, scheme) {
		return nil, ErrMissing
	}
	p := parser{rest: rest}
	params, err := p.parameters()
	if err != nil {
		return nil, err
	}
	return fromParameters(params)
}

// fromParameters checks each value, so that what comes out can be quoted, compared and
// looked up without further thought.
func fromParameters(params map[string]string) (*Authorization, error) {
	a := &Authorization{Origin: params["origin"], Destination: params["destination"], Key: params["key"], Signature: params["sig"]}
	// The specification's list calls it signature, its examples and all servers sig.
	if long, ok := params["signature"]; ok {
		if a.Signature != "" {
			return nil, errors.New("there are both sig and signature")
		}
		a.Signature = long
	}
	if a.Origin == "" {
		return nil, errors.New("origin is missing")
	}
	if !matrix.ValidServerName(a.Origin) {
		return nil, fmt.Errorf("origin %w", ErrServerName)
	}
	if _, given := params["destination"]; given && !matrix.ValidServerName(a.Destination) {
		return nil, fmt.Errorf("destination %w", ErrServerName)
	}
	version, ok := strings.CutPrefix(a.Key, "ed25519:")
	if !ok || version == "" || len(a.Key) > maxKeyID || strings.ContainsFunc(version, func(r rune) bool { return !isTokenRune(r) }) {
		return nil, errors.New("key is not the id of an ed25519 key")
	}
	if _, err := matrix.DecodeBase64(a.Signature); err != nil || a.Signature == "" {
		return nil, errors.New("sig is not base64")
	}
	return a, nil
}

// parser reads auth-params (RFC 9110, sections 5.6 and 11.2).
type parser struct{ rest string }

// parameters reads the list to its end; names are in lower case.
func (p *parser) parameters() (map[string]string, error) {
	params := map[string]string{}
	for {
		p.rest = strings.TrimLeft(p.rest, " \t,") // a list may have empty elements
		if p.rest == "" {
			return params, nil
		}
		name := strings.ToLower(p.take(isToken))
		p.skipSpace()
		if name == "" || !p.skip('=') {
			return nil, errors.New("a parameter has no name or no value")
		}
		p.skipSpace()
		value, err := p.value()
		if err != nil {
			return nil, fmt.Errorf("parameter %s: %w", name, err)
		}
		if _, twice := params[name]; twice || len(params) == maxParameters {
			return nil, fmt.Errorf("parameter %s is there twice, or one too many", name)
		}
		params[name] = value
		p.skipSpace()
		if p.rest != "" && p.rest[0] != ',' {
			return nil, errors.New("there is no comma between two parameters")
		}
	}
}

func (p *parser) value() (string, error) {
	if p.skip('"') {
		return p.quoted()
	}
	// Older servers do not quote values with a colon.
	value := p.take(func(b byte) bool { return isToken(b) || b == ':' })
	if value == "" {
		return "", errors.New("no value")
	}
	return value, nil
}

// quoted reads a quoted-string after its opening quote.
func (p *parser) quoted() (string, error) {
	var value strings.Builder
	for i := 0; i < len(p.rest); i++ {
		b := p.rest[i]
		if b == '"' {
			p.rest = p.rest[i+1:]
			return value.String(), nil
		}
		if b == '\\' {
			if i++; i == len(p.rest) {
				break
			}
			b = p.rest[i]
		}
		if b < ' ' && b != '\t' || b == 0x7f {
			return "", errors.New("a control character")
		}
		value.WriteByte(b)
	}
	return "", errors.New("a quoted value without end")
}

func (p *parser) take(ok func(byte) bool) string {
	n := 0
	for n < len(p.rest) && ok(p.rest[n]) {
		n++
	}
	taken := p.rest[:n]
	p.rest = p.rest[n:]
	return taken
}

func (p *parser) skip(b byte) bool {
	if p.rest == "" || p.rest[0] != b {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *parser) skipSpace() { p.rest = strings.TrimLeft(p.rest, " \t") }

// isToken is tchar of RFC 9110, section 5.6.2.
func isToken(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}

func isTokenRune(r rune) bool { return r < 0x80 && isToken(byte(r)) }
