package report

// Explanation compares what the two models look at: attribution maps of both, computed on the same samples with the same
// perturbations, so that what differs is the model and not the masks. The class that the baseline predicts is explained in both.
//
// Figures are over the samples on which both models predict the same class; those whose prediction changed are in Flips. A figure
// that its method does not have, or that was not measured, is absent.
type Explanation struct {
	Method        string `json:"method"`                                 // how attributions were computed: occlusion, feature-ablation, kernel-shap, rise, recipro-cam, …
	Samples       int    `json:"samples" schema:"count"`                 // samples whose maps were compared: those on which both models agree
	Flipped       *int   `json:"flipped,omitempty" schema:"count"`       // samples whose prediction changed, and which the figures leave out
	Features      int    `json:"features,omitempty" schema:"count"`      // cells or features per map
	Perturbations int    `json:"perturbations,omitempty" schema:"count"` // inferences per sample and model for one map
	Fill          string `json:"fill,omitempty"`                         // what hides a feature: mean, zero, blur, token, rows (of the data), zero-features (in a feature map), or zero-embedding (in place of a token's)
	Target        string `json:"target,omitempty"`                       // what is explained: margin (of the class over the best other one, in logits) or projection (on the baseline's output)

	Spearman    *float64  `json:"spearman,omitempty"`     // median over samples of the rank correlation of the two maps
	CI95        *Interval `json:"ci95,omitempty"`         // interval of spearman, bootstrap over samples
	SpearmanP10 *float64  `json:"spearman_p10,omitempty"` // 10th percentile over samples

	TopKJaccard          *float64      `json:"topk_jaccard,omitempty" schema:"fraction"`      // median over samples of |A∩B| / |A∪B| of the most important features
	TopKCI95             *Interval     `json:"topk_ci95,omitempty"`                           // interval of topk_jaccard
	TopK                 int           `json:"topk,omitempty" schema:"count"`                 // how many features count as most important
	TopKShares           []TopKOverlap `json:"topk_shares,omitempty"`                         // the same for 5, 10 and 20 % of the features
	Cosine               *float64      `json:"cosine,omitempty"`                              // median over samples of the cosine of the two maps
	CosineCI95           *Interval     `json:"cosine_ci95,omitempty"`                         // interval of cosine
	SSIM                 *float64      `json:"ssim,omitempty"`                                // median over samples of the structural similarity of the two maps; images only
	SSIMCI95             *Interval     `json:"ssim_ci95,omitempty"`                           // interval of ssim
	Sign                 *float64      `json:"sign_agreement,omitempty" schema:"fraction"`    // median over samples of the share of the most important features whose sign is the same
	SignCI95             *Interval     `json:"sign_agreement_ci95,omitempty"`                 // interval of sign_agreement
	ArgmaxDistance       *float64      `json:"argmax_distance,omitempty"`                     // mean over samples of the distance between the most important features, in cells; of tables: share of samples where they differ
	ArgmaxDistanceCI95   *Interval     `json:"argmax_distance_ci95,omitempty"`                // interval of argmax_distance
	MassDisplacement     *float64      `json:"mass_displacement,omitempty" schema:"fraction"` // median over samples of the share of importance that lies elsewhere: total variation of |A|/Σ|A| and |B|/Σ|B|
	MassDisplacementCI95 *Interval     `json:"mass_displacement_ci95,omitempty"`              // interval of mass_displacement

	Deletion          *Faithfulness `json:"deletion,omitempty"`                // how much of the target is lost on average while features are hidden, the most important first
	Insertion         *Faithfulness `json:"insertion,omitempty"`               // how much of it is won on average while features are shown, the most important first
	CrossFaithfulness *float64      `json:"cross_faithfulness,omitempty"`      // how well the baseline's map explains the candidate, relative to the candidate's own map; 1 is as well
	CrossCI95         *Interval     `json:"cross_faithfulness_ci95,omitempty"` // interval of cross_faithfulness

	DeadPerturbations         *float64 `json:"dead_perturbations,omitempty" schema:"fraction"`          // share of perturbations that leave the candidate's output exactly unchanged
	BaselineDeadPerturbations *float64 `json:"baseline_dead_perturbations,omitempty" schema:"fraction"` // the same of the baseline
	DeadMaps                  int      `json:"dead_maps,omitempty" schema:"count"`                      // constant maps, for which no correlation exists

	StraightThrough         *int `json:"straight_through,omitempty" schema:"count"`          // nodes of the candidate whose rounding counts as the identity in its gradient; 0: the gradient is that of the function itself; absent for methods without gradients
	BaselineStraightThrough *int `json:"baseline_straight_through,omitempty" schema:"count"` // the same of the baseline

	StandardError        *float64 `json:"standard_error,omitempty"`                    // median over samples of the Monte-Carlo standard error of an attribution, as a share of the map's largest; random methods only
	CompletenessResidual *float64 `json:"completeness_residual,omitempty"`             // largest |Σ attributions − (f(x) − f(background))|, as a share of |f(x) − f(background)| or of the largest attribution; methods that promise 0 only
	BackgroundRows       int      `json:"background_rows,omitempty" schema:"count"`    // rows of the data that hidden features are taken from; absent for another fill
	BackgroundDigest     string   `json:"background_digest,omitempty" schema:"sha256"` // SHA-256 of what hides features

	NoiseFloor *float64    `json:"noise_floor,omitempty"` // rank correlation of the baseline with itself: under other masks for a method that draws them, else on slightly disturbed inputs; what the method cannot tell apart
	SelfCheck  *float64    `json:"self_check,omitempty"`  // rank correlation of the baseline with itself under the same perturbations; 1 for a deterministic runtime
	Calibrated *Calibrated `json:"calibrated,omitempty"`  // thresholds that a change without consequence would just meet, measured in this run

	Flips   []ExplanationFlip `json:"flips,omitempty"`    // samples whose prediction changed, kept apart from the figures above
	MeanMap *Map              `json:"mean_map,omitempty"` // mean of the normalised maps over samples
	Maps    []Map             `json:"maps,omitempty"`     // maps of single samples; only when samples were asked to be included

	Others []Explanation `json:"others,omitempty"` // further methods of the same run, on the same samples; they have no others themselves
}

// TopKOverlap is the overlap of the most important features at one share of them.
type TopKOverlap struct {
	Share   float64   `json:"share" schema:"fraction"`             // of the features
	K       int       `json:"k" schema:"count"`                    // that many features
	Jaccard *float64  `json:"jaccard,omitempty" schema:"fraction"` // median over samples of |A∩B| / |A∪B|
	CI95    *Interval `json:"ci95,omitempty"`                      // interval of jaccard
}

// Faithfulness is how well each model's own map tells what that model depends on, as a mean over the steps of a curve, in shares of
// the difference between sample and background: 0.5 is what an order that knows nothing gives, larger is more faithful.
type Faithfulness struct {
	Baseline  *float64  `json:"baseline,omitempty"`   // the baseline's map on the baseline
	Candidate *float64  `json:"candidate,omitempty"`  // the candidate's map on the candidate
	Delta     *float64  `json:"delta,omitempty"`      // candidate less baseline
	DeltaCI95 *Interval `json:"delta_ci95,omitempty"` // interval of delta, bootstrap over samples
}

// Calibrated holds what similarity a change without consequence leaves, measured in the same run, and so a limit that has a meaning
// for these models and this data. Defaults such as 0.9 are heuristics: no limit in the literature carries over from one model to another.
type Calibrated struct {
	Spearman    *float64 `json:"spearman,omitempty"`                       // lower end of the 95 % interval of the median rank correlation
	TopKJaccard *float64 `json:"topk_jaccard,omitempty" schema:"fraction"` // lower end of the 95 % interval of the median overlap
	Samples     int      `json:"samples" schema:"count"`                   // that many samples
	How         string   `json:"how"`                                      // what the change was
}

// ExplanationFlip is the similarity of the two maps of a sample whose prediction changed.
type ExplanationFlip struct {
	ID        string   `json:"id"`                  // the sample's file name or row number
	Spearman  *float64 `json:"spearman,omitempty"`  // rank correlation of the two maps
	Baseline  string   `json:"baseline,omitempty"`  // class that the baseline predicts, and which both maps explain
	Candidate string   `json:"candidate,omitempty"` // class that the candidate predicts
	Map       *Map     `json:"map,omitempty"`       // both maps; only when samples were asked to be included
}

// Map is an attribution map of both models on a coarse grid, row by row. Values are signed and share one scale.
type Map struct {
	ID        string    `json:"id,omitempty"`        // the sample; absent for a mean over samples
	Rows      int       `json:"rows" schema:"count"` // 1 for a series or a table row
	Cols      int       `json:"cols" schema:"count"` // features per row
	Baseline  []float64 `json:"baseline"`            // Rows × Cols values of the baseline
	Candidate []float64 `json:"candidate"`           // Rows × Cols values of the candidate
}
