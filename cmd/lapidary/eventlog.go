package main

import (
	"bytes"
	"encoding/json"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// The lines of --log; event says which.
type (
	runEvent struct {
		Event   string           `json:"event"` // run: the first line
		Command string           `json:"command"`
		Input   produce.FileInfo `json:"input"`
		Output  produce.FileInfo `json:"output"`
	}
	noticeEvent struct {
		Event string `json:"event"` // notice
		Text  string `json:"text"`
	}
	firedEvent struct {
		Event string `json:"event"` // fired
		rewrite.Firing
	}
	rolledBackEvent struct {
		Event string `json:"event"` // rolled-back
		produce.RolledBack
	}
	declinedEvent struct {
		Event string `json:"event"` // declined
		rewrite.Refusal
	}
)

// writeLog writes what r's rewriting did as JSON lines; nothing where path is "".
func writeLog(path, command string, r *produce.Result) error {
	if path == "" {
		return nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for _, line := range events(command, r) {
		if err := e.Encode(line); err != nil {
			return err
		}
	}
	return atomicfile.WriteFile(path, b.Bytes(), 0o644)
}

func events(command string, r *produce.Result) []any {
	out := []any{runEvent{"run", command, r.Input, r.Output}}
	for _, n := range r.Log.Notices {
		out = append(out, noticeEvent{"notice", n})
	}
	for _, f := range r.Log.Fired {
		out = append(out, firedEvent{"fired", f})
	}
	for _, b := range r.RolledBack {
		out = append(out, rolledBackEvent{"rolled-back", b})
	}
	for _, d := range r.Log.Declined {
		out = append(out, declinedEvent{"declined", d})
	}
	return out
}
