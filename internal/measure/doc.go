// Package measure turns timings into statements: samples into summaries, interleaved pairs into a ratio with an interval
// that covers, and machine conditions into warnings.
//
// Everything here is a pure function or a state machine that is told durations: the package starts no process, reads no
// clock and keeps no global state. Durations are float64 seconds unless a name says otherwise. Anything random takes a seed.
package measure
