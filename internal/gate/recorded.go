package gate

import "github.com/lapidary-ml/lapidary/internal/report"

// CheckRecorded evaluates the gates that an unsigned report records again on its numbers. The error is an [*attest.RejectedError]
// where a recorded gate, verdict or policy digest is not what the numbers give, or names a metric that is not known here.
func CheckRecorded(r *report.Report) error {
	_, err := checkRecorded(r)
	return err
}
