package main

import (
	"path/filepath"
	"regexp"
	"strings"
)

// generalize makes one reason of messages that differ in names and numbers only.
var generalize = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`"[^"]*"`), "…"},
	{regexp.MustCompile(`/\S*/\.lapidary-\S*`), "FILE"},
	{regexp.MustCompile(`\b[0-9a-f]{8,}\b`), "N"},
	{regexp.MustCompile(`\b\d+(\.\d+)?\b`), "N"},
	{regexp.MustCompile(`node (producing )?…`), "node …"},
	{regexp.MustCompile(`(input|output|value|tensor) …`), "$1 …"},
	{regexp.MustCompile(`(does not load|give real ones with --data|running the original: sample|running FILE): .*`), "$1"},
	{regexp.MustCompile(`(the model is quantized already): .*`), "$1"},
	{regexp.MustCompile(`(every output differs from run to run): .*`), "$1"},
	{regexp.MustCompile(`(has no b?float16) \w+ of opset N`), "$1 kernel for it"},
	{regexp.MustCompile(`(?s)node … \([\w.]+\)(: domain … is not among the opset imports).*`), "node …$1"},
	{regexp.MustCompile(`\s+`), " "},
	{regexp.MustCompile(`^FILE:? `), ""},
}

// longestReason is in characters; what follows is of the runtime mostly.
const longestReason = 160

// general is the error that the program printed, without what is of this graph only.
func (g *ledgerGraph) general(stderr string) string {
	_, msg, _ := strings.Cut(stderr, "lapidary: error: ")
	for _, dir := range []string{g.Dir, filepath.Dir(g.Model)} {
		msg = regexp.MustCompile(regexp.QuoteMeta(dir)+`/[^ :,]*`).ReplaceAllString(msg, "FILE")
	}
	for _, r := range generalize {
		msg = r.what.ReplaceAllString(msg, r.by)
	}
	msg = strings.TrimSpace(msg)
	if r := []rune(msg); len(r) > longestReason {
		msg = string(r[:longestReason]) + "…"
	}
	return msg
}
