package gate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"go.yaml.in/yaml/v3"
)

// File is a policy as a person writes it, in YAML, before it is locked.
type File struct {
	Name     string         `yaml:"name"`     // what people call the policy
	Gates    map[string]any `yaml:"gates"`    // as in the gates section of a configuration
	Rules    []Rule         `yaml:"rules"`    // as in the rules section of a configuration
	Requires FileRequires   `yaml:"requires"` // on how it is measured
	Expires  string         `yaml:"expires"`  // a day or a time after which the policy is not to be used
}

// FileRequires are the Requirements as they are written in a file.
type FileRequires struct {
	MinSamples int      `yaml:"min-samples"`
	MinPairs   int      `yaml:"min-pairs"`
	Devices    []string `yaml:"devices"`
	Engines    []string `yaml:"engines"`
}

// ParseFile reads a policy file and returns what it requires. Unknown keys are errors, so that nothing misspelt is silently not asked.
func ParseFile(name string, data []byte) (*File, Policy, error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	f := new(File)
	if err := d.Decode(f); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the file is empty")
		}
		return nil, Policy{}, fmt.Errorf("reading the policy %s: %v", name, err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, Policy{}, fmt.Errorf("reading the policy %s: there is a second document in it; keep one", name)
	}
	p, err := FromConfig(name, f.Gates)
	if err != nil {
		return nil, Policy{}, err
	}
	p.Rules = f.Rules
	if err := p.Check(); err != nil {
		return nil, Policy{}, fmt.Errorf("%s: %v", name, err)
	}
	return f, p, nil
}

// Requirements returns the requirements on the measurement.
func (f *File) Requirements() Requirements {
	return Requirements{MinSamples: f.Requires.MinSamples, MinPairs: f.Requires.MinPairs, Devices: f.Requires.Devices, Engines: f.Requires.Engines}
}

// ParseExpiry reads a day, whose end is meant, or a time in RFC 3339.
func ParseExpiry(text string) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.AddDate(0, 0, 1).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%q is neither a day, as in 2026-12-31, nor a time, as in 2026-12-31T18:00:00Z", text)
	}
	return t.UTC(), nil
}
