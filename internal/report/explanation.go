package report

// Explanation compares what the two models look at: attribution maps of both, computed on the same samples with the same
// perturbations, so that what differs is the model and not the masks.
type Explanation struct {
	Method        string `json:"method"`                                 // how attributions were computed, such as occlusion
	Samples       int    `json:"samples" schema:"count"`                 // samples whose maps were compared: those on which both models agree
	Features      int    `json:"features,omitempty" schema:"count"`      // cells or features per map
	Perturbations int    `json:"perturbations,omitempty" schema:"count"` // inferences per sample and model

	Spearman    *float64  `json:"spearman,omitempty"`     // median over samples of the rank correlation of the two maps
	CI95        *Interval `json:"ci95,omitempty"`         // interval of spearman, bootstrap over samples
	SpearmanP10 *float64  `json:"spearman_p10,omitempty"` // 10th percentile over samples

	TopKJaccard *float64  `json:"topk_jaccard,omitempty" schema:"fraction"` // median over samples of |A∩B| / |A∪B| of the most important features
	TopKCI95    *Interval `json:"topk_ci95,omitempty"`                      // interval of topk_jaccard
	TopK        int       `json:"topk,omitempty" schema:"count"`            // how many features count as most important
	Cosine      *float64  `json:"cosine,omitempty"`                         // median over samples of the cosine of the two maps
	CosineCI95  *Interval `json:"cosine_ci95,omitempty"`                    // interval of cosine

	NoiseFloor        *float64 `json:"noise_floor,omitempty"`                          // rank correlation of the baseline with itself on slightly disturbed inputs: what the method cannot tell apart
	SelfCheck         *float64 `json:"self_check,omitempty"`                           // rank correlation of the baseline with itself under the same perturbations; 1 for a deterministic runtime
	CrossFaithfulness *float64 `json:"cross_faithfulness,omitempty"`                   // how well the baseline's map explains the candidate, relative to the candidate's own map; 1 is as well
	DeadPerturbations *float64 `json:"dead_perturbations,omitempty" schema:"fraction"` // share of perturbations that leave the candidate's output exactly unchanged
	DeadMaps          int      `json:"dead_maps,omitempty" schema:"count"`             // constant maps, for which no correlation exists

	Flips   []ExplanationFlip `json:"flips,omitempty"`    // samples whose prediction changed, kept apart from the figures above
	MeanMap *Map              `json:"mean_map,omitempty"` // mean of the normalised maps over samples
	Maps    []Map             `json:"maps,omitempty"`     // maps of single samples; only when samples were asked to be included
}

// ExplanationFlip is the similarity of the two maps of a sample whose prediction changed.
type ExplanationFlip struct {
	ID       string   `json:"id"`                 // the sample's file name or row number
	Spearman *float64 `json:"spearman,omitempty"` // rank correlation of the two maps
}

// Map is an attribution map of both models on a coarse grid, row by row. Values are signed and share one scale.
type Map struct {
	ID        string    `json:"id,omitempty"`        // the sample; absent for a mean over samples
	Rows      int       `json:"rows" schema:"count"` // 1 for a series or a table row
	Cols      int       `json:"cols" schema:"count"` // features per row
	Baseline  []float64 `json:"baseline"`            // Rows × Cols values of the baseline
	Candidate []float64 `json:"candidate"`           // Rows × Cols values of the candidate
}
