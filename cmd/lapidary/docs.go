package main

import (
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// docsCommand writes the man pages; packagers and the Makefile call it.
func (a *app) docsCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages into a folder",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			date := time.Unix(0, 0).UTC() // the same pages from the same program
			return doc.GenManTree(c.Root(), &doc.GenManHeader{Section: "1", Source: "lapidary", Date: &date}, filepath.Clean(args[0]))
		},
	}
}
