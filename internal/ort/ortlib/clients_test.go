package ortlib

import (
	"context"
	"flag"
	"os"
	"testing"
)

var useClients = flag.Bool("clients", false, "really install every pinned library by npm, pip and go")

// TestClients obtains every pinned library by the clients of this machine.
func TestClients(t *testing.T) {
	if !*useClients {
		t.Skip("needs the network and 600 MB: run with -clients")
	}
	for _, pin := range Pins() {
		t.Run(pin.String(), func(t *testing.T) {
			o := Options{Channel: pin.Channel, Platform: pin.Platform, Env: Env{CacheDir: t.TempDir(), Vars: os.Environ()}}
			r, err := Install(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			v, err := Verify(context.Background(), r.Library)
			if err != nil || !v.OK() || !v.Pinned || v.SHA256 != pin.library() || v.Version != pin.Version {
				t.Errorf("%+v, %v", v, err)
			}
			t.Log(r.Library, v.SHA256)
		})
	}
}
