package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// defaultConfig is read where it exists and --config names nothing else.
const defaultConfig = "lapidary.yaml"

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 1 << 20

// The keys of the configuration that are no flags.
const (
	gatesKey = "gates"
	rulesKey = "rules"
	auditKey = "audit" // a short name of --audit-log
)

// configure fills the flags that the command line leaves out from environment
// and configuration file: flag > LAPIDARY_FLAG_NAME > section of the command in
// the file > top level of the file > default.
func (a *app) configure(c *cobra.Command, args []string) error {
	v, err := a.readConfig(c)
	if err != nil {
		return usageError{err}
	}
	var bad error
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if bad == nil && !f.Changed && f.Name != "config" && f.Name != "help" && f.Name != "version" {
			bad = a.settle(v, c, f)
		}
	})
	if bad == nil && v != nil {
		bad = a.readSections(v)
	}
	if bad == nil && a.format != "text" && a.format != "json" {
		bad = fmt.Errorf("--format %q is unknown; want text or json", a.format)
	}
	if bad == nil && a.progress != "auto" && a.progress != "never" {
		bad = fmt.Errorf("--progress %q is unknown; want auto or never", a.progress)
	}
	a.jsonFailure = a.json()
	if bad != nil {
		return usageError{bad}
	}
	if slices.Contains(onlyShow, commandName(c)) {
		return nil
	}
	if err := keepInputs(c, args); err != nil {
		return usageError{err}
	}
	a.scratch = openScratch()
	return a.beginRecord(c, args)
}

// readSections reads what the configuration has beside flags.
func (a *app) readSections(v *viper.Viper) error {
	a.gatesFrom = v.ConfigFileUsed()
	if v.IsSet(gatesKey) {
		a.gates = v.GetStringMap(gatesKey)
	}
	if v.IsSet(rulesKey) {
		list, ok := v.Get(rulesKey).([]any)
		if !ok {
			return fmt.Errorf("configuration %s: %s: want a list of rules", v.ConfigFileUsed(), rulesKey)
		}
		a.rules = list
	}
	if file, ok := v.Get(auditKey).(string); ok && a.auditLog == "" {
		a.auditLog = file
	}
	return nil
}

// readConfig reads the configuration file; nil where there is none.
func (a *app) readConfig(c *cobra.Command) (*viper.Viper, error) {
	path := a.config
	if path == "" {
		path, _ = a.env.lookup("LAPIDARY_CONFIG")
	}
	if path == "" {
		if _, err := os.Stat(defaultConfig); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		path = defaultConfig
	}
	text, err := readfile.All(path, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("the configuration: %w", err)
	}
	v := viper.New()
	v.SetConfigFile(path)
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(text)); err != nil {
		return nil, fmt.Errorf("reading configuration %s: %v", path, err)
	}
	return v, a.checkKeys(v, c.Root(), path)
}

// checkKeys refuses keys that no flag of any command has.
func (a *app) checkKeys(v *viper.Viper, root *cobra.Command, path string) error {
	flags := map[string]bool{}
	sections := map[string]map[string]bool{}
	for _, c := range root.Commands() {
		own := map[string]bool{}
		add := func(f *pflag.Flag) { own[f.Name], flags[f.Name] = true, true }
		c.Flags().VisitAll(add)
		root.PersistentFlags().VisitAll(add)
		sections[c.Name()] = own
	}
	for key, value := range v.AllSettings() {
		section, isMap := value.(map[string]any)
		switch {
		case key == gatesKey, key == rulesKey, key == auditKey && !isMap, flags[key] && !(sections[key] != nil && isMap):
		case sections[key] != nil && isMap:
			for sub := range section {
				if !sections[key][sub] {
					return fmt.Errorf("configuration %s: %s.%s is no flag of %s; it has: %s", path, key, sub, key, listOf(sections[key]))
				}
			}
		default:
			return fmt.Errorf("configuration %s: %q is no flag and no command", path, key)
		}
	}
	return nil
}

func listOf(set map[string]bool) string {
	var out []string
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// onlyHere marks flags that are taken from the command line alone.
const onlyHere = "command-line-only"

// commandLineOnly keeps a flag that makes lapidary run a program from being set by a configuration file, which may come with
// someone else's models, or by the environment.
func commandLineOnly(c *cobra.Command, name string) {
	f := c.Flags().Lookup(name)
	f.Annotations = map[string][]string{onlyHere: {"true"}}
}

// settle sets f from the environment or the configuration.
func (a *app) settle(v *viper.Viper, c *cobra.Command, f *pflag.Flag) error {
	command := c.Name()
	name := "LAPIDARY_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
	if f.Annotations[onlyHere] != nil {
		_, set := a.env.lookup(name)
		if set || v != nil && (v.IsSet(f.Name) || v.IsSet(command+"."+f.Name)) {
			return fmt.Errorf("--%s runs a program and is taken from the command line only, not from a configuration or the environment", f.Name)
		}
		return nil
	}
	if text, ok := a.env.lookup(name); ok && f.Name != "ort-lib" { // the library's search knows its variable itself
		if err := setFlag(f, text); err != nil {
			return fmt.Errorf("environment variable %s=%q: %v", name, text, err)
		}
		return nil
	}
	if v == nil {
		return nil
	}
	for _, key := range []string{command + "." + f.Name, f.Name} {
		if !v.IsSet(key) || key == f.Name && isSection(c, v, key) {
			continue
		}
		text, err := flagText(v.Get(key))
		if err == nil {
			err = setFlag(f, text)
		}
		if err != nil {
			return fmt.Errorf("configuration %s: %s: %v", v.ConfigFileUsed(), key, err)
		}
		return nil
	}
	return nil
}

// isSection reports whether key holds the flags of a command, which a flag of
// another may be the namesake of: report and policy are both.
func isSection(c *cobra.Command, v *viper.Viper, key string) bool {
	_, isMap := v.Get(key).(map[string]any)
	return isMap && slices.ContainsFunc(c.Root().Commands(), func(x *cobra.Command) bool { return x.Name() == key })
}

// setFlag sets f as the command line would.
func setFlag(f *pflag.Flag, text string) error {
	if s, ok := f.Value.(pflag.SliceValue); ok {
		if text == "" {
			return s.Replace(nil)
		}
		return s.Replace(strings.Split(text, ","))
	}
	return f.Value.Set(text)
}

// flagText writes a configuration value as the command line would.
func flagText(value any) (string, error) {
	switch x := value.(type) {
	case []any:
		parts := make([]string, len(x))
		for i, e := range x {
			parts[i] = fmt.Sprint(e)
		}
		return strings.Join(parts, ","), nil
	case map[string]any: // its keys have lost their case
		return "", errors.New("write it as a list, as in: [N=4, seq=128]")
	}
	return fmt.Sprint(value), nil
}
