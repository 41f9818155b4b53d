package report

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// digest returns the SHA-256 of a name, as a stand-in for a file's.
func digest(name string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(name))) }

// sample returns a report in which every field of every type is set at least once.
func sample() *Report {
	expires := time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC)
	r := &Report{
		Schema: SchemaURI, SchemaVersion: SchemaVersion,
		Tool:     Tool{Name: "lapidary", Version: "v0.1.0", SHA256: digest("lapidary"), Command: "lapidary validate mobilenet.onnx mobilenet.int8.onnx --data val.npz"},
		Seed:     "18446744073709551615",
		Started:  time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		Finished: time.Date(2026, 3, 4, 5, 9, 31, 250e6, time.UTC),
		Verdict:  Fail,
		Baseline: Model{
			Name: "mobilenet.onnx", SHA256: digest("base"), Bytes: 245_760, Parameters: 3_504_872, Nodes: 105,
			External: []File{{Path: "mobilenet.weights", SHA256: digest("weights"), Bytes: 14_019_488}},
		},
		Candidate: Model{
			Name: "mobilenet.int8.onnx", SHA256: digest("cand"), Bytes: 3_655_033, Parameters: 3_487_816, Nodes: 134,
			History: []Step{
				{Command: "fuse", Tool: "lapidary v0.1.0", InputSHA256: digest("base"), Verified: true},
				{Command: "prune", Options: []string{"--sparsity=0.3", "--pattern=channels", "--seed=7"}, Tool: "lapidary v0.1.0", InputSHA256: digest("fused"), Verified: true},
				{Command: "quantize", Options: []string{"--to=int8", "--per-channel", "--no-verify"}, Tool: "lapidary v0.1.0", InputSHA256: digest("pruned"), Calibration: []string{digest("calib")}},
			},
		},
		Data: &Data{
			Origin: OriginFiles, Name: "val.npz", Digest: digest("val"), Samples: 2000, Labelled: true, Classes: 10,
			Preprocess: "resize=256,crop=224,layout=nchw,scale=255", PreprocessDigest: digest("pre"), CalibrationOverlap: Count(0),
		},
		Environment: Environment{
			Tool: "lapidary v0.1.0", Runtime: Runtime{Name: "onnxruntime", Version: "1.30.0", SHA256: digest("ort"), Provider: "CPUExecutionProvider"},
			Device: "cpu", FallbackNodes: Count(0), OS: "linux/amd64", Kernel: "6.12.0", CPU: "AMD EPYC 9354 32-Core Processor", Cores: 4,
			ISA: []string{"avx2", "avx512f", "avx512_vnni"}, Threads: 2, Governor: "performance",
			Container: &Container{CPUQuota: Num(2), CPUSet: "0-3", MemoryBytes: 8 << 30},
			GPU:       []string{"NVIDIA L4"}, Driver: "570.86.15",
		},
		Accuracy: sampleAccuracy(), Latency: sampleLatency(), Explanation: sampleExplanation(),
		Skipped:  []Skip{{Section: "latency.throughput", Reason: "only single inferences were asked for"}},
		Warnings: []string{"the step quantize of mobilenet.int8.onnx was not verified by execution"},
		Policy: &Policy{Source: "policy production", SHA256: digest("policy"), Locked: &LockedPolicy{
			Name: "production", SHA256: digest("locked"), Key: digest("key"),
			Registered: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Expires: &expires}},
	}
	r.Gates = []Gate{
		{Name: "max-drop", Metric: "accuracy.drop", Unit: UnitDifference, Operator: "<=", Threshold: 0.01, Observed: Num(0.0045), CI95: CI(-0.001, 0.0105), Verdict: Inconclusive,
			Reason: "the 95 % interval [-0.10, 1.05] contains the limit 1 pt; about 2,900 samples would decide at this rate of disagreement, 2,000 were given"},
		{Name: "max-latency-ratio", Metric: "latency.ratio", Unit: "ratio", Operator: "<=", Threshold: 1.05, Observed: r.Latency.Ratio, CI95: r.Latency.CI95, Verdict: Pass,
			Reason: "the whole 95 % interval [0.607, 0.621] is at or below the limit 1.05×"},
		{Name: "min-explanation-rho", Metric: "explanation.spearman", Operator: ">=", Threshold: 0.95, Observed: Num(0.912), CI95: CI(0.894, 0.927), Verdict: Fail,
			Reason: "the whole 95 % interval [0.894, 0.927] is below the limit 0.95"},
		{Name: "max-bytes-ratio", Metric: "bytes_ratio", Unit: "ratio", Operator: "<=", Threshold: 0.3, Observed: Num(0.2562), Verdict: Pass,
			Reason: "0.256× is at or below the limit 0.3×"},
		{Name: "no-slice-lost", Metric: "rule", Operator: ">=", Threshold: 1, Observed: Num(1), Verdict: Pass, Reason: "the rule holds",
			CEL: "report.accuracy.slices.all(s, s.ci95[1] > -0.05)", Message: "a slice lost more than 5 points"},
	}
	return r
}

func sampleAccuracy() *Accuracy {
	a := &Accuracy{
		Task: TaskClassification, Metric: "top1", Better: BetterHigher, Baseline: Num(0.9125), Candidate: Num(0.908),
		Delta: Num(-0.0045), CI95: CI(-0.0105, 0.001), CIMethod: "paired BCa bootstrap, 2000 resamples", N: 2000, NRequired: Count(2900), PValue: Num(0.136),
		Flips: &Flips{Changed: 47, RightToWrong: Count(21), WrongToRight: Count(12), WrongToOther: Count(14)},
		KL:    Num(0.0121), KLP95: Num(0.0522), SQNR: Num(24.7),
		Margin: Num(0.01), MinDetectable: Num(0.0087), Ratio: Num(0.9951), RatioCI95: CI(0.9885, 1.0011),
		TopK: []Measure{
			{Name: "top1", Better: BetterHigher, Share: true, Baseline: Num(0.9125), Candidate: Num(0.908), Delta: Num(-0.0045), CI95: CI(-0.0105, 0.001),
				CIMethod: "tango", Ratio: Num(0.9951), RatioCI95: CI(0.9885, 1.0011), PValue: Num(0.136)},
			{Name: "top5", Better: BetterHigher, Share: true, Baseline: Num(0.994), Candidate: Num(0.9935), Delta: Num(-0.0005), CI95: CI(-0.0027, 0.0014)},
		},
		NLL:         &Measure{Name: "nll", Better: BetterLower, Baseline: Num(0.281), Candidate: Num(0.2925), Delta: Num(0.0115), CI95: CI(0.0032, 0.0198)},
		Brier:       &Measure{Name: "brier", Better: BetterLower, Baseline: Num(0.131), Candidate: Num(0.1355), Delta: Num(0.0045), CI95: CI(0.0008, 0.0082)},
		Perplexity:  &Measure{Name: "perplexity", Better: BetterLower, Baseline: Num(1.3245), Candidate: Num(1.3398), Delta: Num(0.0153), CI95: CI(0.0042, 0.0264)},
		Metrics:     []Measure{{Name: "micro-f1", Better: BetterHigher, Share: true, Baseline: Num(0.9125), Candidate: Num(0.908), Delta: Num(-0.0045)}},
		TopKOverlap: Num(0.962), TopKOverlapK: 5, Cosine: &Similarity{Mean: Num(0.9981), CI95: CI(0.9979, 0.9983), P5: Num(0.994), Min: Num(0.9712)},
		Agreement: Num(0.9765), AgreementCI95: CI(0.969, 0.9825),
		ECE: &ECE{Baseline: Num(0.021), Candidate: Num(0.0262), Delta: Num(0.0052), CI95: CI(-0.0011, 0.0116), Bins: 15, Floor: Num(0.0093)},
		Outputs: []OutputDistance{
			{Name: "logits", Elements: 20_000, MaxAbs: Num(1.42), SQNR: Num(24.7), Cosine: Num(0.9983)},
			{Name: "mask", Elements: 2_000, Identical: true, MaxAbs: Num(0), Cosine: Num(1)},
		},
	}
	classes := []string{"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 33 {
		label := classes[rng.IntN(10)]
		f := Flip{ID: fmt.Sprintf("%04d", rng.IntN(2000)), Label: label, Baseline: label, Candidate: classes[rng.IntN(10)], Margin: Num(math.Round(rng.Float64()*250) / 1000)}
		if i >= 21 {
			f.Baseline, f.Candidate = f.Candidate, f.Label
		}
		a.Flips.Samples = append(a.Flips.Samples, f)
	}
	for i, c := range classes {
		d := math.Round((rng.Float64()-0.62)*30) / 1000
		half := 0.008 + rng.Float64()*0.012
		a.Slices = append(a.Slices, Slice{Name: "class=" + c, N: 180 + 4*i, Baseline: Num(0.9125), Candidate: Num(0.9125 + d), Delta: Num(d), CI95: CI(d-half, d+half),
			CI95All: CI(d-1.4*half, d+1.4*half), PValue: Num(0.05), PHolm: Num(0.4)})
	}
	a.Slices = append(a.Slices, Slice{Name: "light=dusk", N: 7, Baseline: Num(0.857), Candidate: Num(0.714), Delta: Num(-0.143), CI95: CI(-0.5, 0.24), Small: true})
	a.SetWorst()
	a.Confusion = []ConfusionChange{
		{Label: "cat", Predicted: "dog", Baseline: 14, Candidate: 20}, {Label: "cat", Predicted: "cat", Baseline: 171, Candidate: 166},
		{Label: "deer", Predicted: "horse", Baseline: 4, Candidate: 7}, {Label: "bird", Predicted: "deer", Baseline: 6, Candidate: 4},
	}
	return a
}

func sampleLatency() *Latency {
	rng := rand.New(rand.NewPCG(3, 4))
	round := func(v float64) float64 { return math.Round(v*1e6) / 1e6 }
	draw := func(n int, center float64) (times []float64) {
		for range n {
			v := center * (1 + 0.012*rng.NormFloat64() + 0.03*rng.ExpFloat64())
			if rng.IntN(40) == 0 {
				v *= 1.25
			}
			times = append(times, round(v))
		}
		return times
	}
	l := &Latency{
		BaselineMS: Num(4.213), CandidateMS: Num(2.587), Ratio: Num(0.614), CI95: CI(0.607, 0.621),
		CIMethod: "process-t", ClusterCI95: CI(0.608, 0.620),
		Pairs: 60, Processes: 3, Batch: 1, Iterations: 8, Warmup: 40, MinEffect: Num(0.011), Stopped: "precise",
		P50:    &Quantile{4.213, CI(4.198, 4.229), 2.587, CI(2.576, 2.598), Num(-1.626), CI(-1.651, -1.601), nil},
		P90:    &Quantile{4.561, CI(4.522, 4.612), 2.811, CI(2.779, 2.850), Num(-1.748), CI(-1.802, -1.694), &Bounds{4.640, 2.871}},
		P95:    &Quantile{4.802, CI(4.710, 5.020), 2.964, CI(2.902, 3.090), Num(-1.838), CI(-2.011, -1.665), &Bounds{5.102, 3.140}},
		P99:    &Quantile{5.611, CI(5.402, 5.893), 3.420, CI(3.305, 3.611), nil, nil, nil},
		Series: &Series{draw(60, 4.1), draw(60, 2.52)},
		Noise: &Noise{Lag1: Num(0.08), TrendP: Num(0.41), Steal: Num(0.002), Throttled: Count[int64](3), ContextSwitches: Count[int64](118),
			CPUPressure: Num(0.04), Modes: Num(1.06), Drift: Num(-0.012), GPULimits: []string{"power-cap"}, GPULimited: Num(0.1),
			Warnings: []string{"the control group's quota stopped the process in 3 periods"}},
		Memory: &Memory{62_914_560, 41_943_040, Num(-20_840_448), CI(-21_102_592, -20_578_304)},
		ColdStart: &ColdStart{
			BaselineMS: Num(61.4), CandidateMS: Num(48.9), Ratio: Num(0.796), CI95: CI(0.771, 0.822),
			Baseline: &ColdPhases{Num(4.1), Num(50.3), Num(7.0)}, Candidate: &ColdPhases{Num(1.2), Num(43.1), Num(4.6)},
		},
		Energy: &Energy{
			BaselineMJ: Num(88.1), CandidateMJ: Num(51.7), Counter: "nvml", Ratio: Num(0.587), CI95: CI(0.571, 0.603),
			Windows: 5, WindowMS: Num(800), IdleWatts: Num(31.2), IdleShare: Num(0.42),
		},
		Throughput: []Throughput{
			{Batch: 8, Instances: 1, Threads: 2, BaselinePerSec: Num(301), CandidatePerSec: Num(522), Ratio: Num(1.73), CI95: CI(1.70, 1.77), Pairs: 60, Processes: 6},
			{Batch: 1, Instances: 2, Threads: 1, BaselinePerSec: Num(344), CandidatePerSec: Num(561), Ratio: Num(1.63), Pairs: 60, Processes: 6, Severe: "the hypervisor took 31.0 % of the processor time"},
		},
		SelfTest: &SelfTest{
			ModelSHA256: digest("base"), Measured: time.Date(2026, 3, 3, 17, 0, 0, 0, time.UTC), Cached: true, Repeats: 20, BudgetS: 3, Inconclusive: 1,
			FalseAlarms: 1, FalseAlarmRate: Num(1.0 / 19), RateCI95: CI(0.0013, 0.2603), Claims: 1, MinEffect: Num(0.013), MinEffectCI95: CI(0.011, 0.019),
			Spread: Num(0.0042), LargestError: Num(0.012), Library: digest("ort"), Device: "cpu", CPU: "AMD EPYC 9354 32-Core Processor", Threads: 2,
		},
	}
	l.Histogram = NewHistogram(draw(480, 4.1), append(draw(479, 2.52), 9.1), 48)
	for i, e := range l.Histogram.EdgesMS {
		l.Histogram.EdgesMS[i] = round(e)
	}
	return l
}

func sampleExplanation() *Explanation {
	e := &Explanation{
		Method: "occlusion", Samples: 128, Features: 49, Perturbations: 49, Spearman: Num(0.912), CI95: CI(0.894, 0.927), SpearmanP10: Num(0.741),
		TopKJaccard: Num(0.667), TopKCI95: CI(0.6, 0.667), TopK: 5, Cosine: Num(0.951), CosineCI95: CI(0.940, 0.960),
		NoiseFloor: Num(0.63), SelfCheck: Num(1), CrossFaithfulness: Num(1.03), DeadPerturbations: Num(0.034), DeadMaps: 1,
		Flips:   []ExplanationFlip{{ID: "0412", Spearman: Num(0.44), Baseline: "3", Candidate: "8"}, {ID: "1207", Spearman: Num(0.61), Baseline: "1", Candidate: "7"}},
		Flipped: Count(2), Fill: "mean", Target: "margin",
		TopKShares: []TopKOverlap{{Share: 0.05, K: 2, Jaccard: Num(1), CI95: CI(0.333, 1)}, {Share: 0.1, K: 5, Jaccard: Num(0.667), CI95: CI(0.6, 0.667)}, {Share: 0.2, K: 10, Jaccard: Num(0.667), CI95: CI(0.667, 0.818)}},
		SSIM:       Num(0.874), SSIMCI95: CI(0.851, 0.893), Sign: Num(1), SignCI95: CI(1, 1), ArgmaxDistance: Num(0.31), ArgmaxDistanceCI95: CI(0.21, 0.44),
		MassDisplacement: Num(0.118), MassDisplacementCI95: CI(0.104, 0.131),
		Deletion: &Faithfulness{Num(0.812), Num(0.797), Num(-0.015), CI(-0.031, 0.002)}, Insertion: &Faithfulness{Num(0.774), Num(0.768), Num(-0.006), CI(-0.019, 0.008)},
		CrossCI95: CI(0.99, 1.06), BaselineDeadPerturbations: Num(0), BackgroundDigest: digest("background"),
		Calibrated: &Calibrated{Num(0.962), Num(0.818), 8, "the baseline with itself, on inputs moved by up to 0.0039 of their range"},
	}
	e.Others = []Explanation{{
		Method: "kernel-shap", Samples: 128, Flipped: Count(2), Features: 49, Perturbations: 355, Fill: "rows", Target: "margin", BackgroundRows: 16, BackgroundDigest: digest("rows"),
		Spearman: Num(0.884), CI95: CI(0.861, 0.903), SpearmanP10: Num(0.702), StandardError: Num(0.062), CompletenessResidual: Num(2e-16), StraightThrough: Count(26), BaselineStraightThrough: Count(0), NoiseFloor: Num(0.81), SelfCheck: Num(1),
	}}
	blob := func(shift float64) *Map {
		m := &Map{Rows: 7, Cols: 7}
		for y := range 7 {
			for x := range 7 {
				at := func(cx, cy float64) float64 {
					dx, dy := float64(x)-cx, float64(y)-cy
					return math.Exp(-(dx*dx + dy*dy) / 4)
				}
				m.Baseline = append(m.Baseline, math.Round(1000*(at(3, 2.6)-0.3*at(6, 6)))/1000)
				m.Candidate = append(m.Candidate, math.Round(1000*(0.92*at(3+shift, 3)-0.4*at(6, 5.5)))/1000)
			}
		}
		return m
	}
	e.MeanMap = blob(0.4)
	one := blob(1.2)
	one.ID = "0007"
	e.Maps = []Map{*one}
	flipped := blob(2.1)
	flipped.ID, e.Flips[0].Map = e.Flips[0].ID, flipped
	return e
}

// hostile returns a report whose strings try to break out of every format.
func hostile() *Report {
	const evil = "x\x1b[31m</script><script>alert(1)</script>\" onload='a' | `b` ]]> <!-- & \x00\u202e @all\n\n# h\r\n::error::y $(id) \xff"
	r := sample()
	r.Tool.Version, r.Tool.Command, r.Policy.Source = evil, evil, evil
	r.Policy.Locked.Name, r.Policy.Locked.Key = evil, evil
	for _, m := range []*Model{&r.Baseline, &r.Candidate} {
		m.Name = evil
		m.External = []File{{Path: evil, SHA256: digest("e"), Bytes: 1}}
		m.History = []Step{{Command: evil, Options: []string{evil}, Tool: evil, InputSHA256: evil, Calibration: []string{evil}}}
	}
	r.Data.Name, r.Data.Preprocess = evil, evil
	r.Environment.CPU, r.Environment.Kernel, r.Environment.ISA, r.Environment.GPU = evil, evil, []string{evil}, []string{evil}
	r.Warnings, r.Skipped = []string{evil}, []Skip{{Section: evil, Reason: evil}}
	r.Latency.Noise.Warnings = []string{evil}
	r.Explanation.Method, r.Explanation.Flips[0].ID, r.Explanation.Maps[0].ID = evil, evil, evil
	a := r.Accuracy
	a.Metric, a.CIMethod = evil, evil
	a.Flips.Samples[0] = Flip{ID: evil, Label: evil, Baseline: evil, Candidate: evil}
	a.Slices[0].Name, a.Outputs[0].Name, a.Confusion[0].Label, a.Confusion[0].Predicted = evil, evil, evil, evil
	for i := range r.Gates {
		r.Gates[i].Name, r.Gates[i].Reason = evil, evil
		if r.Gates[i].CEL != "" {
			r.Gates[i].CEL, r.Gates[i].Message = evil, evil
		}
	}
	return r
}
