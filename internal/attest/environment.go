package attest

import (
	"slices"
	"strings"
)

// secretPrefix begins the names of variables that are for keys alone.
const secretPrefix = "LAPIDARY_KEY_"

// WithoutSecrets leaves out of an environment, for another program, what is
// lapidary's alone: the passphrase or PIN of the key that signs.
func WithoutSecrets(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(s string) bool { return strings.HasPrefix(s, secretPrefix) })
}
