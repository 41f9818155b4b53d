// Release builds what a release consists of, from the checkout that it runs in:
//
//	go run ./internal/release -version v1.2.3 [-o dist] [-only linux/amd64,…] [-key KEY]
//
// For each platform one archive with the program, its manual pages and shell completions, the licences of all that is in it, and a CycloneDX
// bill of materials; beside them SHA256SUMS and, with -key, the signatures. Equal sources and tools give equal bytes, signatures aside.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/ort/ortlib"
	"github.com/lapidary-ml/lapidary/internal/signer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := &release{}
	var only, key string
	flag.StringVar(&r.version, "version", "", "version of the release, as v1.2.3")
	flag.StringVar(&r.out, "o", "dist", "folder to write to; must not exist or be empty")
	flag.StringVar(&only, "only", "", "platforms, as linux/amd64,darwin/arm64; with +cgo, +embedded or -cgo behind, only that build of them")
	flag.StringVar(&key, "key", "", "what signs the release: a private key file, pkcs11:…, exec:PROGRAM, or the address of a key service; without it nothing is signed")
	flag.Parse()
	if err := r.run(ctx, only, key); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// release is what is being built.
type release struct {
	version string
	out     string
	commit  string    // "" where it is not known
	time    time.Time // of the commit, or SOURCE_DATE_EPOCH: the time of every file
	pages   []file    // the same in every archive
}

func (r *release) run(ctx context.Context, only, key string) error {
	if !validVersion(r.version) {
		return fmt.Errorf("-version %q: want one such as v1.2.3", r.version)
	}
	if list, err := os.ReadDir(r.out); err == nil && len(list) > 0 {
		return fmt.Errorf("%s is not empty; remove it, or choose another with -o", r.out)
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	var owner signer.Signer
	if key != "" { // before minutes of building
		if owner, err = openOwner(ctx, key); err != nil {
			return err
		}
		defer owner.Close()
	}
	if r.time, err = sourceTime(ctx); err != nil {
		return err
	}
	if r.commit, err = sourceCommit(ctx); err != nil {
		return err
	}
	fmt.Printf("of commit %s\n", cmp.Or(r.commit, "unknown: this is no checkout, and "+commitVariable+" is not set"))
	work, err := os.MkdirTemp("", "lapidary-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if r.pages, err = r.documents(ctx, work); err != nil {
		return err
	}
	if err := r.archives(ctx, chosen, work); err != nil {
		return err
	}
	if err := r.sums(); err != nil || owner == nil {
		return err
	}
	return r.sign(ctx, owner)
}

// archives makes one for each of the chosen targets that can be built here.
func (r *release) archives(ctx context.Context, chosen []target, work string) error {
	built := 0
	for _, t := range chosen {
		env, why := t.environment()
		if why != "" {
			fmt.Printf("%-28s left out: %s\n", t, why)
			continue
		}
		if err := r.archive(ctx, t, env, work); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		built++
	}
	if built == 0 {
		return fmt.Errorf("nothing was built")
	}
	return nil
}

// validVersion reports whether v is a version of three numbers behind a v, with an optional suffix.
func validVersion(v string) bool {
	core, _, _ := strings.Cut(strings.TrimPrefix(v, "v"), "-")
	parts := strings.Split(core, ".")
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 10, 32); err != nil {
			return false
		}
	}
	return strings.HasPrefix(v, "v") && len(parts) == 3 && !strings.ContainsAny(v, "/\\ \n")
}

// sourceTime is SOURCE_DATE_EPOCH, as https://reproducible-builds.org/specs/source-date-epoch has it, or else the time of the commit.
func sourceTime(ctx context.Context) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		b, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("the time of the commit: %w; set SOURCE_DATE_EPOCH outside of a checkout", err)
		}
		text = strings.TrimSpace(string(b))
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%s: want seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// archive builds the program for t and packs it.
func (r *release) archive(ctx context.Context, t target, env []string, work string) error {
	start := time.Now()
	program := filepath.Join(work, t.name(r.version), t.program())
	var wheel *ortlib.Wheel
	var flags []string
	var err error
	if t.embedded {
		if wheel, err = ortlib.FetchWheel(ctx, ortlib.Platform{OS: t.os, Arch: t.arch}, ortlib.Env{Vars: os.Environ()}); err != nil {
			return err
		}
		if flags, err = t.carry(work, wheel); err != nil {
			return err
		}
	}
	if err := r.compile(ctx, program, t, env, flags...); err != nil {
		return err
	}
	b, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	modules, err := modulesOf(program)
	if err != nil {
		return err
	}
	bom, err := billOf(t.name(r.version), r.version, t, modules, b, wheel)
	if err != nil {
		return err
	}
	notices, err := noticesOf(ctx, modules)
	if err != nil {
		return err
	}
	if wheel != nil {
		notices = fmt.Appendf(notices, "\n%s\nONNX Runtime %s\n\n--- LICENSE\n\n%s\n\n--- ThirdPartyNotices.txt\n\n%s\n",
			strings.Repeat("=", 80), ortlib.Version, strings.TrimSpace(wheel.Licence), strings.TrimSpace(wheel.Notices))
	}
	files := append([]file{{t.program(), b, 0o755}, {"sbom.cdx.json", bom, 0o644}, {"THIRD-PARTY-LICENSES.txt", notices, 0o644}}, r.pages...)
	path := filepath.Join(r.out, t.name(r.version)+t.extension())
	if err := pack(path, t.name(r.version), files, r.time); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.out, t.name(r.version)+".cdx.json"), bom, 0o644); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	fmt.Printf("%-28s %s, %.1f MiB, %.0f s\n", t, filepath.Base(path), float64(info.Size())/(1<<20), time.Since(start).Seconds())
	return nil
}
