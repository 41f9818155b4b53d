//go:build cgo

package signer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/miekg/pkcs11"
)

// token is a key on a PKCS#11 token, in one session.
type token struct {
	mu      sync.Mutex
	uri     *tokenURI
	lib     *pkcs11.Ctx
	session pkcs11.SessionHandle
	private pkcs11.ObjectHandle
	key     attest.PublicKey
	always  bool   // the token wants the PIN before every signature
	pin     []byte // kept only where it is wanted again
}

// openToken loads the token's library, logs in and finds the key.
func openToken(u *tokenURI, o Options) (_ Signer, err error) {
	if _, err := os.Stat(u.module); err != nil {
		return nil, fmt.Errorf("the token's library: %w", err)
	}
	lib := pkcs11.New(u.module)
	if lib == nil {
		return nil, fmt.Errorf("the token's library %s cannot be loaded; it is no PKCS#11 module for this machine", u.module)
	}
	if err := lib.Initialize(); err != nil {
		lib.Destroy()
		return nil, fmt.Errorf("starting the token's library %s: %w", u.module, err)
	}
	t := &token{uri: u, lib: lib}
	defer func() {
		if err != nil {
			t.Close()
		}
	}()
	slot, info, err := t.findSlot()
	if err != nil {
		return nil, err
	}
	if t.session, err = lib.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION); err != nil {
		return nil, fmt.Errorf("opening the token %q: %w", info.Label, err)
	}
	if info.Flags&pkcs11.CKF_LOGIN_REQUIRED != 0 {
		if err := t.login(info.Label, o); err != nil {
			return nil, err
		}
	}
	if err := t.findKey(); err != nil {
		return nil, err
	}
	if !t.always {
		clear(t.pin)
	}
	return t, nil
}

// findSlot returns the one slot whose token is meant.
func (t *token) findSlot() (uint, pkcs11.TokenInfo, error) {
	slots, err := t.lib.GetSlotList(true)
	if err != nil {
		return 0, pkcs11.TokenInfo{}, fmt.Errorf("listing the tokens of %s: %w", t.uri.module, err)
	}
	var found []uint
	var info pkcs11.TokenInfo
	var labels []string
	for _, s := range slots {
		i, err := t.lib.GetTokenInfo(s)
		if err != nil {
			continue // a slot that was emptied since
		}
		labels = append(labels, fmt.Sprintf("%q in slot %d", i.Label, s))
		if t.uri.isToken(s, i.Label, i.ManufacturerID, i.Model, i.SerialNumber) {
			found, info = append(found, s), i
		}
	}
	switch {
	case len(labels) == 0:
		return 0, info, fmt.Errorf("%s has no token; insert or initialize one", t.uri.module)
	case len(found) == 0:
		return 0, info, fmt.Errorf("no token is %s; %s has %s", t.uri, t.uri.module, strings.Join(labels, ", "))
	case len(found) > 1:
		return 0, info, fmt.Errorf("%d tokens are %s; add serial= or slot-id= to choose one of %s", len(found), t.uri, strings.Join(labels, ", "))
	}
	return found[0], info, nil
}

// login proves with the PIN that the user may sign.
func (t *token) login(label string, o Options) error {
	ask := o.secret(fmt.Sprintf("PIN of token %q", label))
	if ask == nil {
		return fmt.Errorf("the token %q needs a PIN, and none was given", label)
	}
	attest.GuardMemory()
	pin, err := ask()
	if err != nil {
		return err
	}
	t.pin = pin
	switch err := t.lib.Login(t.session, pkcs11.CKU_USER, string(pin)); {
	case err == nil, isCode(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN):
		return nil
	case isCode(err, pkcs11.CKR_PIN_INCORRECT):
		return fmt.Errorf("the PIN of the token %q is wrong; tokens lock after a few wrong ones", label)
	case isCode(err, pkcs11.CKR_PIN_LOCKED):
		return fmt.Errorf("the token %q is locked after wrong PINs; unlock it with its own tool", label)
	default:
		return fmt.Errorf("logging in to the token %q: %w", label, err)
	}
}

func isCode(err error, code uint) bool {
	var e pkcs11.Error
	return errors.As(err, &e) && uint(e) == code
}

// findKey finds the private key and the public key that belongs to it.
func (t *token) findKey() error {
	private, err := t.find(pkcs11.CKO_PRIVATE_KEY, t.uri.id, t.uri.object)
	if err != nil {
		return err
	}
	t.private = private
	t.always = t.flag(private, pkcs11.CKA_ALWAYS_AUTHENTICATE)
	id := t.uri.id
	if v, err := t.value(private, pkcs11.CKA_ID); err == nil && len(v) > 0 {
		id = string(v) // the pair shares it, the label need not be the same
	}
	label := t.uri.object
	if id != "" {
		label = ""
	}
	public, err := t.find(pkcs11.CKO_PUBLIC_KEY, id, label)
	if err != nil {
		return err
	}
	t.key, err = t.publicKey(public)
	if err != nil {
		return fmt.Errorf("the key %s: %w", t.uri, err)
	}
	return nil
}

// find returns the one EC key of a class with that identifier and label.
func (t *token) find(class uint, id, label string) (pkcs11.ObjectHandle, error) {
	what := "private"
	if class == pkcs11.CKO_PUBLIC_KEY {
		what = "public"
	}
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class)}
	if id != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(id)))
	}
	if label != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	}
	fail := func(err error) (pkcs11.ObjectHandle, error) {
		return 0, fmt.Errorf("looking for the %s key %s: %w", what, t.uri, err)
	}
	if err := t.lib.FindObjectsInit(t.session, template); err != nil {
		return fail(err)
	}
	found, _, err := t.lib.FindObjects(t.session, 2)
	if endErr := t.lib.FindObjectsFinal(t.session); err == nil {
		err = endErr
	}
	switch {
	case err != nil:
		return fail(err)
	case len(found) == 0:
		return 0, fmt.Errorf("the token has no %s key %s", what, t.uri)
	case len(found) > 1:
		return 0, fmt.Errorf("the token has several %s keys %s; add id= to choose one", what, t.uri)
	}
	return found[0], nil
}

func (t *token) value(o pkcs11.ObjectHandle, attribute uint) ([]byte, error) {
	list, err := t.lib.GetAttributeValue(t.session, o, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
	if err != nil || len(list) != 1 {
		return nil, err
	}
	return list[0].Value, nil
}

func (t *token) flag(o pkcs11.ObjectHandle, attribute uint) bool {
	v, err := t.value(o, attribute)
	return err == nil && len(v) == 1 && v[0] == 1
}

// p256 is the object identifier of the curve, as CKA_EC_PARAMS has it.
var p256 = []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}

// publicKey reads the point of a public key. Tokens give it as a DER octet string, some
// as it is.
func (t *token) publicKey(o pkcs11.ObjectHandle) (attest.PublicKey, error) {
	params, err := t.value(o, pkcs11.CKA_EC_PARAMS)
	if err != nil || len(params) == 0 {
		return attest.PublicKey{}, errors.New("it is no key of an elliptic curve; only ECDSA P-256 keys are supported, since these verify everywhere")
	}
	if !bytes.Equal(params, p256) {
		return attest.PublicKey{}, fmt.Errorf("it is a key of another curve (parameters %x); only ECDSA P-256 keys are supported, since these verify everywhere", params)
	}
	point, err := t.value(o, pkcs11.CKA_EC_POINT)
	if err != nil {
		return attest.PublicKey{}, err
	}
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return attest.PublicKey{}, fmt.Errorf("its public point: %w", err)
	}
	return attest.NewPublicKey(key)
}

// PublicKey implements [attest.Signer].
func (t *token) PublicKey() attest.PublicKey { return t.key }

// Sign implements [attest.Signer]. The token signs the digest, so that it need not know
// how to hash.
func (t *token) Sign(_ context.Context, message []byte) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}
	if err := t.lib.SignInit(t.session, mechanism, t.private); err != nil {
		return nil, fmt.Errorf("the token refuses to sign with %s: %w", t.uri, err)
	}
	if t.always {
		if err := t.lib.Login(t.session, pkcs11.CKU_CONTEXT_SPECIFIC, string(t.pin)); err != nil {
			return nil, fmt.Errorf("the token wants the PIN before every signature, and did not take it: %w", err)
		}
	}
	digest := sha256.Sum256(message)
	raw, err := t.lib.Sign(t.session, digest[:])
	if err != nil {
		return nil, fmt.Errorf("the token did not sign with %s: %w", t.uri, err)
	}
	return derSignature(raw)
}

// Close implements [Signer].
func (t *token) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lib == nil {
		return nil
	}
	clear(t.pin)
	if t.session != 0 {
		t.lib.CloseSession(t.session) // what it leaves is ended by Finalize
	}
	err := t.lib.Finalize()
	t.lib.Destroy()
	t.lib = nil
	return err
}
