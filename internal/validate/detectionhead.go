package validate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/lapidary-ml/lapidary/internal/readfile"
	"github.com/lapidary-ml/lapidary/internal/score"
)

// Head says how the outputs of a detector become boxes.
type Head struct {
	Boxes   string `yaml:"boxes"`   // output with N boxes of 4 numbers, or with all of a box in one row: box, objectness, classes
	Scores  string `yaml:"scores"`  // output with N rows of class scores, or one score for each box beside Classes; "": behind the box, in Boxes
	Classes string `yaml:"classes"` // output with the class of each of N boxes; "": the highest score says it

	Layout     string `yaml:"layout"`     // xyxy (the default), yxyx, xywh (corner and size) or cxcywh
	Normalized bool   `yaml:"normalized"` // coordinates are fractions of the picture; else pixels of Size
	Size       string `yaml:"size"`       // WxH of the model's input in pixels; needed where boxes and labels differ in their unit, and for priors
	Labels     string `yaml:"labels"`     // normalized or pixels (of Size); "": as the boxes are
	Transposed bool   `yaml:"transposed"` // outputs have the N boxes along their last axis

	Activation string `yaml:"activation"` // of the scores: none (the default), sigmoid or softmax
	Objectness bool   `yaml:"objectness"` // the fifth number of a row of Boxes multiplies its scores
	Background *int   `yaml:"background"` // class of the scores that is no object; classes keep their numbers

	Priors    *Priors    `yaml:"priors"`    // boxes are offsets to these (SSD)
	Variances [2]float64 `yaml:"variances"` // of the offsets of centre and size; 0.1 and 0.2 by default

	MinScore float64 `yaml:"min_score"` // boxes below are dropped; 0.05 by default
	NMS      float64 `yaml:"nms"`       // IoU above which the lower of two boxes of a class is dropped; 0: the model has done so
	Keep     int     `yaml:"keep"`      // most boxes per sample, highest scores first; 100 by default

	width, height float64
	priors        []score.Box
}

// Priors is a grid of boxes per feature map, square ones of the sizes given, centred on each cell, in rows: what
// https://github.com/Linzaier/Ultra-Light-Fast-Generic-Face-Detector-1MB and other SSDs start from.
type Priors struct {
	Strides []float64   `yaml:"strides"` // pixels between the centres of each feature map
	Sizes   [][]float64 `yaml:"sizes"`   // sides of the boxes in pixels, per feature map
}

const maxHeadFile = 1 << 20

// ParseHead reads the YAML or JSON file of that name, or the inline form, such as "boxes=dets,scores=conf,layout=cxcywh,nms=0.5".
func ParseHead(spec string) (*Head, error) {
	text := ""
	if strings.Contains(spec, "=") {
		var lines []string
		for _, part := range strings.Split(spec, ",") {
			key, value, _ := strings.Cut(part, "=")
			lines = append(lines, strings.TrimSpace(key)+": "+strings.TrimSpace(value))
		}
		text = strings.Join(lines, "\n")
	} else {
		b, err := readfile.All(spec, maxHeadFile)
		if err != nil {
			return nil, fmt.Errorf("detection head: %w; give a file or key=value pairs", err)
		}
		text = string(b)
	}
	h := &Head{Layout: "xyxy", Variances: [2]float64{0.1, 0.2}, MinScore: 0.05, Keep: 100, Activation: "none"}
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(h); err != nil {
		return nil, fmt.Errorf("detection head: %v", strings.ReplaceAll(err.Error(), " in type validate.Head", ""))
	}
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("detection head: %w", err)
	}
	return h, nil
}

func (h *Head) check() error {
	oneOf := func(key, value string, allowed ...string) error {
		if !slices.Contains(allowed, value) {
			return fmt.Errorf("%s is %q, want %s", key, value, strings.Join(allowed, ", "))
		}
		return nil
	}
	err := errors.Join(oneOf("layout", h.Layout, "xyxy", "yxyx", "xywh", "cxcywh"), oneOf("activation", h.Activation, "none", "sigmoid", "softmax"),
		oneOf("labels", h.Labels, "", "normalized", "pixels"), h.parseSize())
	switch {
	case err != nil:
		return err
	case h.Boxes == "":
		return errors.New("boxes is missing: name the output that holds them")
	case h.Classes != "" && h.Scores == "":
		return errors.New("classes needs scores, the output with one score for each box")
	case h.Objectness && h.Scores != "":
		return errors.New("objectness is the fifth number of a row of boxes, which needs scores to be in the same output")
	case h.NMS < 0 || h.NMS > 1 || h.MinScore < 0 || math.IsNaN(h.NMS+h.MinScore) || h.Keep < 1:
		return fmt.Errorf("nms is %v, min_score %v and keep %d; want nms from 0 to 1, min_score from 0 and keep from 1", h.NMS, h.MinScore, h.Keep)
	case h.Background != nil && h.Classes != "":
		return errors.New("background is a column of the scores; with classes there is none")
	case h.width == 0 && (h.Priors != nil || h.Labels == "pixels" && h.Normalized || h.Labels == "normalized" && !h.Normalized):
		return errors.New("size is missing: the width and height of the model's input, as 320x240")
	case h.Priors != nil:
		return h.makePriors()
	}
	return nil
}

func (h *Head) parseSize() error {
	if h.Size == "" {
		return nil
	}
	w, t, ok := strings.Cut(h.Size, "x")
	width, werr := strconv.Atoi(w)
	height, herr := strconv.Atoi(t)
	if !ok || werr != nil || herr != nil || width < 1 || height < 1 || width > 1<<20 || height > 1<<20 {
		return fmt.Errorf("size is %q, want WxH such as 320x240", h.Size)
	}
	h.width, h.height = float64(width), float64(height)
	return nil
}

const maxPriors = 1 << 22

func (h *Head) makePriors() error {
	p := h.Priors
	if len(p.Strides) == 0 || len(p.Strides) != len(p.Sizes) {
		return fmt.Errorf("priors have %d strides and %d lists of sizes, want one list for each stride", len(p.Strides), len(p.Sizes))
	}
	for i, stride := range p.Strides {
		if !(stride >= 1) {
			return fmt.Errorf("priors have a stride of %v, want at least 1", stride)
		}
		columns, lines := int(math.Ceil(h.width/stride)), int(math.Ceil(h.height/stride))
		if len(h.priors)+columns*lines*len(p.Sizes[i]) > maxPriors {
			return fmt.Errorf("priors are more than %d boxes", maxPriors)
		}
		for y := range lines {
			for x := range columns {
				for _, side := range p.Sizes[i] {
					clip := func(v float64) float64 { return min(1, max(0, v)) }
					// Centre and size, as fractions, in the corners of a Box.
					h.priors = append(h.priors, score.Box{
						X1: clip((float64(x) + 0.5) / (h.width / stride)), Y1: clip((float64(y) + 0.5) / (h.height / stride)),
						X2: clip(side / h.width), Y2: clip(side / h.height),
					})
				}
			}
		}
	}
	return nil
}

// normalizedLabels says in which unit labels are.
func (h *Head) normalizedLabels() bool {
	if h.Labels == "" {
		return h.Normalized || h.Priors != nil
	}
	return h.Labels == "normalized"
}

// corners turns the four numbers of a box into corners in the unit of the labels.
func (h *Head) corners(v [4]float64, prior int) score.Box {
	var b score.Box
	normalized := h.Normalized
	if h.Priors != nil {
		p := h.priors[prior]
		cx, cy := p.X1+v[0]*h.Variances[0]*p.X2, p.Y1+v[1]*h.Variances[0]*p.Y2
		w, t := p.X2*math.Exp(v[2]*h.Variances[1]), p.Y2*math.Exp(v[3]*h.Variances[1])
		b = score.Box{X1: cx - w/2, Y1: cy - t/2, X2: cx + w/2, Y2: cy + t/2}
		normalized = true
	} else {
		switch h.Layout {
		case "xyxy":
			b = score.Box{X1: v[0], Y1: v[1], X2: v[2], Y2: v[3]}
		case "yxyx":
			b = score.Box{X1: v[1], Y1: v[0], X2: v[3], Y2: v[2]}
		case "xywh":
			b = score.Box{X1: v[0], Y1: v[1], X2: v[0] + v[2], Y2: v[1] + v[3]}
		case "cxcywh":
			b = score.Box{X1: v[0] - v[2]/2, Y1: v[1] - v[3]/2, X2: v[0] + v[2]/2, Y2: v[1] + v[3]/2}
		}
	}
	sx, sy := 1.0, 1.0
	switch {
	case normalized && !h.normalizedLabels():
		sx, sy = h.width, h.height
	case !normalized && h.normalizedLabels():
		sx, sy = 1/h.width, 1/h.height
	}
	return score.Box{X1: b.X1 * sx, Y1: b.Y1 * sy, X2: b.X2 * sx, Y2: b.Y2 * sy}
}

// table is an output for one sample as n rows of columns numbers.
type table struct {
	v          []float64
	n, columns int
	transposed bool
}

func (t table) at(row, column int) float64 {
	if t.transposed {
		return t.v[column*t.n+row]
	}
	return t.v[row*t.columns+column]
}

// decode turns both outputs of one model for one sample into boxes. scores and classes are of no rows where the head has none.
func (h *Head) decode(boxes, scores, classes table) []score.Box {
	var out []score.Box
	row := []float64{}
	for i := range boxes.n {
		row = row[:0]
		from, at := scores, 0
		if h.Scores == "" {
			from, at = boxes, 4
			if h.Objectness {
				at = 5
			}
		}
		for c := at; c < from.columns; c++ {
			row = append(row, from.at(i, c))
		}
		h.activate(row)
		if h.Objectness {
			for c := range row {
				row[c] *= h.one(boxes.at(i, 4))
			}
		}
		place := [4]float64{boxes.at(i, 0), boxes.at(i, 1), boxes.at(i, 2), boxes.at(i, 3)}
		for c, s := range row {
			if s < h.MinScore || h.Background != nil && c == *h.Background {
				continue
			}
			b := h.corners(place, i)
			if b.Score, b.Class = s, c; h.Classes != "" {
				b.Class = int(classes.at(i, 0))
			}
			if b.Class >= 0 { // what fills up a fixed number of boxes
				out = append(out, b)
			}
		}
	}
	if h.NMS > 0 {
		return score.NMS(out, h.NMS, h.Keep)
	}
	slices.SortStableFunc(out, func(a, b score.Box) int { return compareFalling(a.Score, b.Score) })
	return out[:min(len(out), h.Keep)]
}

func compareFalling(a, b float64) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	}
	return 0
}

// one is the activation of a single score; softmax over one is none.
func (h *Head) one(v float64) float64 {
	if h.Activation == "sigmoid" {
		return 1 / (1 + math.Exp(-v))
	}
	return v
}

func (h *Head) activate(row []float64) {
	if h.Activation != "softmax" {
		for i, v := range row {
			row[i] = h.one(v)
		}
		return
	}
	top, sum := math.Inf(-1), 0.0
	for _, v := range row {
		top = max(top, v)
	}
	for i, v := range row {
		row[i] = math.Exp(v - top)
		sum += row[i]
	}
	for i := range row {
		row[i] /= sum
	}
}
