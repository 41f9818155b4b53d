package attest

import (
	"slices"
	"testing"
)

func TestWithoutSecrets(t *testing.T) {
	got := WithoutSecrets([]string{"PATH=/bin", "LAPIDARY_KEY_PASSPHRASE=x", "LAPIDARY_MODEL=m"})
	if !slices.Equal(got, []string{"PATH=/bin", "LAPIDARY_MODEL=m"}) {
		t.Errorf("%v", got)
	}
}
