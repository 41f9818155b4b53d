package device

import (
	"strings"
	"testing"
)

func TestOversubscribed(t *testing.T) {
	smt := Machine{CPU: CPU{Logical: 8, Cores: 4}, Limits: Limits{CPUs: []int{2, 3, 4, 5}, Cores: 2, Affinity: []int{2, 3, 4, 5}}}
	quota := Machine{CPU: CPU{Logical: 8, Cores: 8}, Limits: Limits{Quota: 1.5}}
	tests := []struct {
		m       Machine
		threads int
		says    string // "" for no complaint
	}{
		{smt, 2, ""},
		{smt, 4, ""}, // two threads of one core
		{smt, 5, "cpuset and affinity allow 4 of 8"},
		{quota, 2, ""},
		{quota, 3, "quota allows 1.5"},
		{Machine{CPU: CPU{Logical: 2}}, 3, "2 logical processors"},
		{Machine{}, 99, ""}, // nothing is known
	}
	for _, tt := range tests {
		got := tt.m.Oversubscribed(tt.threads)
		if (got == "") != (tt.says == "") || !strings.Contains(got, tt.says) {
			t.Errorf("%d threads on %+v: %q, want %q", tt.threads, tt.m, got, tt.says)
		}
	}
	if !smt.Pinned() || quota.Pinned() {
		t.Error("pinned is bound to fewer processors than the machine has")
	}
	within := smt
	within.Limits.Cpuset = []int{2, 3, 4, 5}
	if within.Pinned() {
		t.Error("all processors of the cpuset are no pinning")
	}
	if !smt.CPU.SMT() || quota.CPU.SMT() {
		t.Error("SMT is more logical processors than cores")
	}
}

func TestList(t *testing.T) {
	for want, cpus := range map[string][]int{"": nil, "5": {5}, "0-3,8": {0, 1, 2, 3, 8}, "1,3,5-6": {1, 3, 5, 6}} {
		if got := List(cpus); got != want {
			t.Errorf("%v: %q, want %q", cpus, got, want)
		}
		if back := cpuList(want); len(back) != len(cpus) {
			t.Errorf("%q reads as %v", want, back)
		}
	}
}
