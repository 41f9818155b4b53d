//go:build !cgo

package signer

import "errors"

// openToken cannot load a library without cgo.
func openToken(*tokenURI, Options) (Signer, error) {
	return nil, errors.New("this program was built without cgo, so it cannot load a PKCS#11 library; use a build with cgo, or sign with exec:PROGRAM and a program such as pkcs11-tool")
}
