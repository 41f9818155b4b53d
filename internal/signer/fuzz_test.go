package signer

import "testing"

// FuzzTokenURI reads PKCS#11 URIs: what is read names a library, and means the token that has all it says.
func FuzzTokenURI(f *testing.F) {
	for _, s := range []string{
		"pkcs11:token=prod;object=release?module-path=/usr/lib/softhsm/libsofthsm2.so", "pkcs11:id=%01%ff;slot-id=3?module-path=/x", "pkcs11:?module-path=%2F",
		"pkcs11:token=a;token=b?module-path=/x", "pkcs11:object=%zz?module-path=/x", "pkcs11:x?pin-value=1234",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseTokenURI(s)
		if err != nil {
			return
		}
		slot := uint(0)
		if u.slot != nil {
			slot = *u.slot
		}
		if u.module == "" || !u.isToken(slot, u.token, u.manufacturer, u.model, u.serial) || u.isToken(slot+1, u.token, u.manufacturer, u.model, u.serial) == (u.slot != nil) {
			t.Fatalf("%q reads as %v of the library %q", s, u, u.module)
		}
	})
}
