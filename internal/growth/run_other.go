//go:build !linux

package growth

import "os"

// resident is not known here.
func resident(int) (all, own int64) { return 0, 0 }

// maxResident is not known here.
func maxResident(*os.ProcessState) int64 { return 0 }
