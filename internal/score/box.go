package score

import (
	"cmp"
	"math"
	"slices"
)

// Box is an object, found or true, in any unit that both share: x to the right, y down.
type Box struct {
	X1, Y1, X2, Y2 float64
	Class          int
	Score          float64 // of a found one
	Ignore         bool    // a true one that may be found, by several even, or not (crowd, difficult)
}

func (b Box) area() float64 { return max(0, b.X2-b.X1) * max(0, b.Y2-b.Y1) }

// finite says whether box and score are numbers.
func (b Box) finite() bool {
	for _, v := range []float64{b.X1, b.Y1, b.X2, b.Y2, b.Score} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

func intersection(a, b Box) float64 {
	w, h := min(a.X2, b.X2)-max(a.X1, b.X1), min(a.Y2, b.Y2)-max(a.Y1, b.Y1)
	if w <= 0 || h <= 0 {
		return 0
	}
	return w * h
}

// IoU is the area that two boxes share / that which they cover together; 0 where both are empty.
func IoU(a, b Box) float64 {
	i := intersection(a, b)
	if u := a.area() + b.area() - i; u > 0 {
		return i / u
	}
	return 0
}

// NMS drops every box that overlaps one of its class with a higher score by more than iou, and keeps at most limit of the
// rest, highest scores first (0: all). Boxes of equal score keep their order.
func NMS(boxes []Box, iou float64, limit int) []Box {
	slices.SortStableFunc(boxes, func(a, b Box) int { return cmp.Compare(b.Score, a.Score) })
	var kept []Box
	for _, b := range boxes {
		if limit > 0 && len(kept) == limit {
			break
		}
		if !slices.ContainsFunc(kept, func(k Box) bool { return k.Class == b.Class && IoU(k, b) > iou }) {
			kept = append(kept, b)
		}
	}
	return kept
}

// thresholds are the IoUs of COCO: 0.50, 0.55 … 0.95.
var thresholds = [10]float64{0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95}

// maxFound is how many boxes per class and sample COCO looks at.
const maxFound = 100

// matched says of a found box at which thresholds (bit i: thresholds[i]) it is right, and at which it counts as neither.
type matched struct {
	score          float64
	right, ignored uint16
}

// match pairs the boxes found in one sample with the true ones of the same class as COCO does: each found box, highest score
// first, takes the true box that it overlaps most among those still free, if by the threshold at least; true boxes to be ignored
// come last, may be taken again where they are crowds, and overlap with them is measured against the found box alone.
// hit says per true box whether it was found at IoU 0.5.
//
// Source: cocodataset/cocoapi, PythonAPI/pycocotools/cocoeval.py, evaluateImg.
func match(truth, found []Box) (out []matched, hit []bool) {
	found = slices.Clone(found)
	slices.SortStableFunc(found, func(a, b Box) int { return cmp.Compare(b.Score, a.Score) })
	found = found[:min(len(found), maxFound)]
	order := make([]int, len(truth))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(number(truth[a].Ignore)) - int(number(truth[b].Ignore)) })
	overlap := make([][]float64, len(found))
	for d, f := range found {
		overlap[d] = make([]float64, len(order))
		for g, at := range order {
			if t := truth[at]; !t.Ignore {
				overlap[d][g] = IoU(f, t)
			} else if area := f.area(); area > 0 {
				overlap[d][g] = intersection(f, t) / area
			}
		}
	}
	out, hit = make([]matched, len(found)), make([]bool, len(truth))
	for d, f := range found {
		out[d].score = f.Score
	}
	taken := make([]bool, len(order))
	for bit, threshold := range thresholds {
		clear(taken)
		for d := range found {
			best, at := min(threshold, 1-1e-10), -1
			for g, i := range order {
				ignore := truth[i].Ignore
				if taken[g] && !ignore {
					continue
				}
				if ignore && at >= 0 && !truth[order[at]].Ignore {
					break
				}
				if overlap[d][g] >= best {
					best, at = overlap[d][g], g
				}
			}
			if at < 0 {
				continue
			}
			taken[at] = true
			if truth[order[at]].Ignore {
				out[d].ignored |= 1 << bit
				continue
			}
			out[d].right |= 1 << bit
			hit[order[at]] = hit[order[at]] || bit == 0
		}
	}
	return out, hit
}
