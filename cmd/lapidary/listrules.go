package main

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/fuse"
)

// ruleDoc is one rule or pass of fuse.
type ruleDoc struct {
	Name string `json:"name"` // for --only and --disable
	Doc  string `json:"doc"`
}

// listRules prints the rules of fuse in their order.
func (a *app) listRules() error {
	list := []ruleDoc{}
	width := 0
	for _, r := range fuse.RuleNames() {
		list = append(list, ruleDoc{r[0], r[1]})
		width = max(width, len(r[0]))
	}
	if a.json() {
		return writeJSON(a.env.stdout, struct {
			Schema string    `json:"schema"`
			Rules  []ruleDoc `json:"rules"`
		}{schemaURI("rules-v1"), list})
	}
	for _, r := range list {
		fmt.Fprintf(a.env.stdout, "%-*s  %s\n", width, r.Name, r.Doc)
	}
	return nil
}
