package signer

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// tokenURI is a PKCS#11 URI (RFC 7512) as far as it finds one key. Empty attributes are
// not looked at.
type tokenURI struct {
	module string // path of the shared library

	token, manufacturer, model, serial string // of the token

	slot *uint

	object string // CKA_LABEL
	id     string // CKA_ID, bytes
}

// parseTokenURI reads a URI. A PIN in it is refused: arguments are seen by everyone.
func parseTokenURI(s string) (*tokenURI, error) {
	path, query, _ := strings.Cut(strings.TrimPrefix(s, "pkcs11:"), "?")
	u := &tokenURI{}
	seen := map[string]bool{}
	set := func(what, list, sep string, one func(name, value string) error) error {
		if list == "" {
			return nil
		}
		for i, part := range strings.Split(list, sep) {
			name, coded, ok := strings.Cut(part, "=")
			value, err := url.PathUnescape(coded)
			if !ok || err != nil {
				return fmt.Errorf("attribute %d of its %s is not NAME=VALUE with percent-encoding, as RFC 7512 has it", i+1, what) // it may be a secret
			}
			if seen[name] {
				return fmt.Errorf("the attribute %q appears twice", name)
			}
			seen[name] = true
			if err := one(name, value); err != nil {
				return err
			}
		}
		return nil
	}
	if strings.Contains(strings.ToLower(s), "pin-value") { // before an error could repeat it
		return nil, errors.New("it has a pin-value, which other users of the machine can see; leave it out, and give the PIN when asked, or with --passphrase-file")
	}
	if err := set("path", path, ";", u.pathAttribute); err != nil {
		return nil, err
	}
	if err := set("query", query, "&", u.queryAttribute); err != nil {
		return nil, err
	}
	switch {
	case u.module == "":
		return nil, errors.New("it has no module-path; add ?module-path= and the token's library, such as /usr/lib/softhsm/libsofthsm2.so")
	case !filepath.IsAbs(u.module):
		return nil, fmt.Errorf("its module-path %q is not absolute", u.module)
	case u.object == "" && u.id == "":
		return nil, errors.New("it names no key; add object=LABEL or id=%01")
	}
	return u, nil
}

func (u *tokenURI) pathAttribute(name, value string) error {
	switch name {
	case "token":
		u.token = value
	case "manufacturer":
		u.manufacturer = value
	case "model":
		u.model = value
	case "serial":
		u.serial = value
	case "object":
		u.object = value
	case "id":
		u.id = value
	case "slot-id":
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return fmt.Errorf("its slot-id %q is not a number", value)
		}
		slot := uint(n)
		u.slot = &slot
	case "type":
		if value != "private" {
			return fmt.Errorf("its type is %q, and only a private key signs", value)
		}
	default:
		return fmt.Errorf("the attribute %q is not known here; a key is found by token, manufacturer, model, serial, slot-id, object and id", name)
	}
	return nil
}

func (u *tokenURI) queryAttribute(name, value string) error {
	switch name {
	case "module-path":
		u.module = value
	default:
		return fmt.Errorf("the attribute %q is not known here; only module-path is", name)
	}
	return nil
}

// String names the key for messages.
func (u *tokenURI) String() string {
	var parts []string
	for _, a := range []struct{ name, value string }{
		{"token", u.token}, {"manufacturer", u.manufacturer}, {"model", u.model}, {"serial", u.serial}, {"object", u.object},
	} {
		if a.value != "" {
			parts = append(parts, fmt.Sprintf("%s %q", a.name, a.value))
		}
	}
	if u.slot != nil {
		parts = append(parts, fmt.Sprintf("slot %d", *u.slot))
	}
	if u.id != "" {
		parts = append(parts, fmt.Sprintf("id %x", u.id))
	}
	return strings.Join(parts, ", ")
}

// isToken reports whether the token in a slot is the one meant.
func (u *tokenURI) isToken(slot uint, label, manufacturer, model, serial string) bool {
	for _, a := range []struct{ want, have string }{
		{u.token, label}, {u.manufacturer, manufacturer}, {u.model, model}, {u.serial, serial},
	} {
		if a.want != "" && a.want != a.have {
			return false
		}
	}
	return u.slot == nil || *u.slot == slot
}
