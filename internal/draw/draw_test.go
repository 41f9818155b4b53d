package draw

import (
	"encoding/xml"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestScale(t *testing.T) {
	s := Scale{Lo: 0, Hi: 10, From: 100, To: 0}
	for v, want := range map[float64]float64{0: 100, 10: 0, 2.5: 75, -4: 100, 99: 0} {
		if got := s.At(v); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v is at %v, want %v", v, got, want)
		}
	}
	l := Scale{Lo: 1, Hi: 1000, From: 0, To: 300, Log: true}
	for v, want := range map[float64]float64{1: 0, 10: 100, 100: 200, 1000: 300, 0: 0, 1e9: 300} {
		if got := l.At(v); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v is at %v of the logarithmic scale, want %v", v, got, want)
		}
	}
	if s := NewScale(0, 1, 0.1, 5, 5, 5); s.Lo >= 5 || s.Hi <= 5 {
		t.Errorf("equal values give %+v", s)
	}
	if s := NewLogScale(0, 1, 0.1, 0, -3, 2, 8); s.Lo <= 0 || s.Lo > 2 || s.Hi < 8 {
		t.Errorf("values above 0 give %+v", s)
	}
	if s := NewLogScale(0, 1, 0.1); !(s.Lo > 0 && s.Hi > s.Lo) {
		t.Errorf("no values give %+v", s)
	}
}

func TestTicks(t *testing.T) {
	if got := (Scale{Lo: 0, Hi: 10}).Ticks(5); !slices.Equal(got, []float64{0, 2, 4, 6, 8, 10}) {
		t.Errorf("ticks %v", got)
	}
	for _, s := range []Scale{{Lo: 0.013, Hi: 0.014, Log: true}, {Lo: 1e-6, Hi: 1e9, Log: true}, {Lo: 0.7, Hi: 90, Log: true}, {Lo: 3, Hi: 3}, {Lo: math.NaN(), Hi: 1}} {
		got := s.Ticks(6)
		if len(got) > 10 || slices.ContainsFunc(got, func(v float64) bool { return v < s.Lo || v > s.Hi }) || !slices.IsSorted(got) {
			t.Errorf("%+v has ticks %v", s, got)
		}
	}
	if got := (Scale{Lo: 0.7, Hi: 90, Log: true}).Ticks(6); len(got) < 3 {
		t.Errorf("ticks %v of two decades", got)
	}
}

// TestDrawingIsXML: whatever the texts and numbers, the drawing is well formed
// and holds no markup but its own.
func TestDrawingIsXML(t *testing.T) {
	bad := "<script>\"&'\x00\u202e\xff"
	d := New("id", 100, 50, bad, bad)
	d.Rect("a", math.NaN(), math.Inf(1), -3, 2)
	d.Bar("a", 1, 2, 3, 4, bad)
	d.Shade("a", 1, 2, 3, 4, 0.5)
	d.Dot("a", 1, -0.001, 3, bad)
	d.Path("a", 1, 2, math.NaN(), 4)
	d.Area("a", 1, 2, 3, 4, 5, 6)
	d.Whisker("a", 1, 2, 3)
	d.Interval("a", 1, 2, 3)
	d.Axis(Scale{Lo: 0, Hi: 1, To: 100}, 40, 4, func(float64) string { return bad })
	d.Grid(Scale{Lo: 0, Hi: 1, To: 100}, 0, 90, 4, func(float64) string { return bad })
	d.Text("a", "start", 1, 2, bad)
	d.TurnedText("a", "start", 1, 2, bad)
	text := string(d.HTML())
	dec := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "script" {
			t.Error("a text became markup")
		}
	}
	if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") || strings.Contains(text, `"-0"`) {
		t.Errorf("a coordinate is no number: %s", text)
	}
}

func TestStyle(t *testing.T) {
	css := string(Style)
	if !strings.Contains(css, "prefers-color-scheme:dark") || strings.Contains(css, "url(") || strings.Contains(css, "@import") || strings.Contains(css, "</") {
		t.Error("the style sheet lacks a dark theme, or names something outside of the page")
	}
	if strings.Count(css, "{") != strings.Count(css, "}") {
		t.Error("the style sheet's braces do not match")
	}
}
