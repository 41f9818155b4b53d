package report

import "time"

// chainView is the history of one of the two models.
type chainView struct {
	Role, Class string // "Baseline" and the class of its colour
	Model       *Model
	Steps       []stepView
	StepsLeft   int
	Files       []File
	FilesLeft   int
}

type stepView struct {
	*Step
	Reads       string // what the input is known to be, such as "the baseline of this report"
	Calibrated  []string
	Calibration int // digests of calibration data that are left out
}

// maxDigests bounds the digests of calibration data that are shown of one step.
const maxDigests = 20

// chains returns the history of the baseline and of the candidate.
func (r *Report) chains() []chainView {
	return []chainView{r.chain("Baseline", "b", &r.Baseline), r.chain("Candidate", "c", &r.Candidate)}
}

func (r *Report) chain(role, class string, m *Model) chainView {
	v := chainView{Role: role, Class: class, Model: m, StepsLeft: max(0, len(m.History)-maxRows), FilesLeft: max(0, len(m.External)-maxRows)}
	v.Files = m.External[:min(maxRows, len(m.External))]
	for i := range m.History[:min(maxRows, len(m.History))] {
		s := &m.History[i]
		step := stepView{Step: s, Calibrated: s.Calibration[:min(maxDigests, len(s.Calibration))], Calibration: max(0, len(s.Calibration)-maxDigests)}
		if s.InputSHA256 == r.Baseline.SHA256 && role == "Candidate" {
			step.Reads = "the baseline of this report"
		}
		v.Steps = append(v.Steps, step)
	}
	return v
}

// environmentFacts returns what the measurement ran on, with its seed and how long it took.
func (r *Report) environmentFacts() [][2]string {
	out := r.Environment.facts()
	if s := clean(r.Seed); s != "" {
		out = append(out, [2]string{"seed", s})
	}
	if d := r.Finished.Sub(r.Started); d > 0 {
		out = append(out, [2]string{"took", d.Round(1e9).String()})
	}
	if r.Tool.SHA256 != "" {
		out = append(out, [2]string{"program, SHA-256", clean(r.Tool.SHA256)})
	}
	return out
}

// policyFacts returns where the requirements came from.
func (r *Report) policyFacts() [][2]string {
	if r.Policy == nil {
		return nil
	}
	out := [][2]string{{"requirements stated by", clean(r.Policy.Source)}, {"requirements, SHA-256", clean(r.Policy.SHA256)}}
	if l := r.Policy.Locked; l != nil {
		out = append(out, [2]string{"signed before the measurement", l.Registered.UTC().Format(time.RFC3339) + ", as " + clean(l.Name)},
			[2]string{"signed by key", clean(l.Key)}, [2]string{"signed policy, SHA-256", clean(l.SHA256)})
		if l.Expires != nil {
			out = append(out, [2]string{"valid until", l.Expires.UTC().Format(time.RFC3339)})
		}
	}
	return out
}

// terms explains the words that the page uses, to a reader who is no statistician.
func (r *Report) terms() [][2]string {
	out := [][2]string{
		{"Verdict", "Pass: the evidence shows that every requirement holds. Fail: it shows that one does not hold, or there is no evidence. Inconclusive: it is too weak to say either; more samples or a quieter machine may decide."},
		{"95 % interval", "The range in brackets. If the measurement were repeated many times, 95 of 100 such ranges would hold the true value. A requirement is judged by the whole range, never by the single figure before it."},
	}
	if r.Latency != nil {
		out = append(out,
			[2]string{"Ratio (×)", "Candidate divided by baseline. 0.5× is half the time or size, 2× is twice as much."},
			[2]string{"Pair", "Both models run in turn on the same machine at the same moment, so that what slows one slows the other."})
	}
	if r.Accuracy != nil {
		out = append(out,
			[2]string{"Percentage point (pt)", "A difference of two percentages: from 91 % to 90 % is −1 pt."},
			[2]string{"Right → wrong", "A sample that the baseline answers correctly and the candidate does not. Equal accuracy can hide many of them, if as many go the other way."})
	}
	if r.Explanation != nil {
		out = append(out,
			[2]string{"Attribution map", "How much each part of an input speaks for the prediction, found by hiding the parts in turn and watching the output."},
			[2]string{"Noise floor", "What the method gives for the baseline against itself on slightly disturbed inputs. Agreement near it is as good as can be told apart."})
	}
	return append(out, [2]string{"SHA-256", "A fingerprint of a file's bytes. Two files with the same fingerprint are the same file."})
}
