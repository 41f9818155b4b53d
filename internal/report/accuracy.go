package report

// Accuracy compares the predictions of the two models on the same samples.
type Accuracy struct {
	Task      string   `json:"task" schema:"classification|multilabel|tokens|regression|detection|segmentation|embeddings|custom|tensor"` // what the outputs were read as; all but regression, custom and tensor have metrics that are fractions
	Metric    string   `json:"metric,omitempty"`                                                                                          // name of the metric against labels, such as top1 or mae; absent without labels
	Better    string   `json:"better,omitempty" schema:"higher|lower"`                                                                    // "higher" or "lower": the metric's good direction
	Baseline  *float64 `json:"baseline,omitempty"`                                                                                        // the metric of the baseline, a fraction for top1
	Candidate *float64 `json:"candidate,omitempty"`                                                                                       // the metric of the candidate

	Delta     *float64  `json:"delta,omitempty"`                     // candidate − baseline, paired
	CI95      *Interval `json:"ci95,omitempty"`                      // interval of delta
	CIMethod  string    `json:"ci_method,omitempty"`                 // how the interval was computed
	N         int       `json:"n" schema:"count"`                    // samples compared
	NRequired *int      `json:"n_required,omitempty" schema:"count"` // samples that the accuracy gate's margin needs at the observed disagreement (power 80 %, one-sided 5 %)
	PValue    *float64  `json:"p_value,omitempty" schema:"fraction"` // of no difference: exact McNemar for shares of right answers, else as ci_method says

	Margin        *float64  `json:"margin,omitempty"`              // loss that n_required is stated for, in the metric's own unit
	MinDetectable *float64  `json:"min_detectable_drop,omitempty"` // smallest loss that these samples can rule out (power 80 %, one-sided 5 %), in the metric's own unit
	Ratio         *float64  `json:"ratio,omitempty"`               // share of the baseline's metric that is kept: candidate / baseline, or baseline / candidate where lower is better
	RatioCI95     *Interval `json:"ratio_ci95,omitempty"`          // interval of ratio

	TopK       []Measure `json:"topk,omitempty"`       // top-k accuracy for each k asked for
	NLL        *Measure  `json:"nll,omitempty"`        // mean negative log-likelihood of the labels, in nats
	Brier      *Measure  `json:"brier,omitempty"`      // mean squared distance of the class distribution from the label, 0 to 2
	Perplexity *Measure  `json:"perplexity,omitempty"` // exp of the mean negative log-likelihood per token
	Metrics    []Measure `json:"metrics,omitempty"`    // further metrics of the task, such as map50, miou or recall@5

	TopKOverlap  *float64    `json:"topk_overlap,omitempty" schema:"fraction"` // mean share of the baseline's k highest classes that are among the candidate's
	TopKOverlapK int         `json:"topk_overlap_k,omitempty" schema:"count"`  // k of topk_overlap
	Cosine       *Similarity `json:"cosine,omitempty"`                         // of both models' embeddings of a sample

	Flips         *Flips    `json:"flips,omitempty"`                       // predictions that changed
	Agreement     *float64  `json:"agreement,omitempty" schema:"fraction"` // share of samples with the same prediction
	AgreementCI95 *Interval `json:"agreement_ci95,omitempty"`              // interval of agreement
	KL            *float64  `json:"kl,omitempty"`                          // mean Kullback-Leibler divergence of the candidate's class distribution from the baseline's, in nats
	KLP95         *float64  `json:"kl_p95,omitempty"`                      // 95th percentile over samples, in nats
	SQNR          *float64  `json:"sqnr_db,omitempty"`                     // signal to quantization noise over all outputs, in dB; absent when the outputs are identical
	Identical     bool      `json:"identical,omitempty"`                   // every output of every sample is bitwise the same
	ECE           *ECE      `json:"ece,omitempty"`                         // calibration of the stated probabilities

	Confusion []ConfusionChange `json:"confusion,omitempty"`   // pairs of classes whose counts changed, largest change first
	Outputs   []OutputDistance  `json:"outputs,omitempty"`     // numeric distance per output of the model
	Slices    []Slice           `json:"slices,omitempty"`      // the same comparison within parts of the data
	Worst     *SliceDrop        `json:"worst_slice,omitempty"` // the slice that lost most, of those with enough samples
}

// Drop returns how much worse the candidate is in the metric's own unit (positive is worse) with its interval;
// nil where the report has no paired delta or does not state the metric's good direction.
func (a *Accuracy) Drop() (*float64, *Interval) {
	return drop(a.Better, a.Delta, a.CI95)
}

func drop(better string, delta *float64, ci *Interval) (*float64, *Interval) {
	if delta == nil {
		return nil, nil
	}
	switch better {
	case BetterLower:
		return delta, ci
	case BetterHigher:
		d := 0 - *delta // not -*delta: the negative of zero is printed as -0
		if ci == nil {
			return &d, nil
		}
		return &d, &Interval{0 - ci[1], 0 - ci[0]}
	}
	return nil, nil
}

// Values of Accuracy.Better.
const (
	BetterHigher = "higher"
	BetterLower  = "lower"
)

// Values of Accuracy.Task.
const (
	TaskClassification = "classification"
	TaskMultiLabel     = "multilabel"
	TaskTokens         = "tokens"
	TaskRegression     = "regression"
	TaskDetection      = "detection"
	TaskSegmentation   = "segmentation"
	TaskEmbeddings     = "embeddings"
	TaskCustom         = "custom"
	TaskTensor         = "tensor"
)

// IsShare reports whether the accuracy metric of the task is a share of right answers, and not a quantity with a unit of its own.
func (a *Accuracy) IsShare() bool {
	switch a.Task {
	case TaskClassification, TaskMultiLabel, TaskTokens, TaskDetection, TaskSegmentation, TaskEmbeddings:
		return true
	}
	return false
}

// Flips counts samples whose predicted class changed. The first three need labels.
type Flips struct {
	Changed      int    `json:"changed" schema:"count"`                  // predictions that differ, labels or not
	RightToWrong *int   `json:"right_to_wrong,omitempty" schema:"count"` // right in the baseline, wrong in the candidate
	WrongToRight *int   `json:"wrong_to_right,omitempty" schema:"count"` // wrong in the baseline, right in the candidate
	WrongToOther *int   `json:"wrong_to_other,omitempty" schema:"count"` // wrong in both, differently
	Samples      []Flip `json:"samples,omitempty"`                       // some or all of them; right to wrong first
}

// Flip is one sample whose prediction changed; it holds identifiers only.
type Flip struct {
	ID        string   `json:"id"`               // the sample's file name or row number
	Label     string   `json:"label,omitempty"`  // the true class
	Baseline  string   `json:"baseline"`         // the class that the baseline predicts
	Candidate string   `json:"candidate"`        // the class that the candidate predicts
	Margin    *float64 `json:"margin,omitempty"` // the baseline's probability of its class minus that of the next; small margins flip first
}

// ECE is the expected calibration error of both models over equal-mass bins of stated confidence.
type ECE struct {
	Baseline  *float64  `json:"baseline,omitempty" schema:"fraction"`  // of the baseline
	Candidate *float64  `json:"candidate,omitempty" schema:"fraction"` // of the candidate
	Delta     *float64  `json:"delta,omitempty"`                       // candidate − baseline; positive is worse
	CI95      *Interval `json:"ci95,omitempty"`                        // interval of delta
	Bins      int       `json:"bins,omitempty" schema:"count"`         // number of bins
	Floor     *float64  `json:"floor,omitempty" schema:"fraction"`     // what a perfectly calibrated model shows on average with so few samples: the bias of the estimate
}

// ConfusionChange is a cell of the confusion matrix whose count differs between the two models.
type ConfusionChange struct {
	Label     string `json:"label"`                    // true class
	Predicted string `json:"predicted"`                // predicted class
	Baseline  int    `json:"baseline" schema:"count"`  // samples in the cell, baseline
	Candidate int    `json:"candidate" schema:"count"` // samples in the cell, candidate
}

// OutputDistance is the numeric distance between the two models at one output, over all samples.
type OutputDistance struct {
	Name      string   `json:"name"`                              // name of the output
	Elements  int64    `json:"elements,omitempty" schema:"count"` // elements compared
	Identical bool     `json:"identical,omitempty"`               // bitwise the same for every sample
	MaxAbs    *float64 `json:"max_abs,omitempty"`                 // largest absolute difference
	SQNR      *float64 `json:"sqnr_db,omitempty"`                 // 10·log10(Σ baseline² / Σ difference²); absent when identical
	Cosine    *float64 `json:"cosine,omitempty"`                  // cosine of the two flattened outputs
}
