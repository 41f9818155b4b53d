package score

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var near = cmpopts.EquateApprox(1e-6, 1e-9)

// The intervals come from SciPy, by maximizing the multinomial likelihood numerically under each difference d in place of
// Tango's closed form:
//
//	def score(d, b, c, n):  # b gains, c losses
//	    nll = lambda q: -sum(k*np.log(p) for k, p in ((b, q+d), (c, q), (n-b-c, 1-2*q-d)) if k)
//	    q = scipy.optimize.minimize_scalar(nll, bounds=(max(0, -d), (1-d)/2), method="bounded").x
//	    return (b - c - n*d) / np.sqrt(n*(2*q + d - d*d))
//	low, high = brentq(score - 1.959964), brentq(score + 1.959964)
func TestTango(t *testing.T) {
	for _, tt := range []struct {
		gains, losses, n int
		low, high        float64
	}{
		{0, 0, 100, -0.03699349820, 0.03699349820}, // z²/(n+z²)
		{0, 1, 44, -0.11807709698, 0.05939323113},
		{2, 12, 100, -0.18188166949, -0.03100051919},
		{12, 2, 50, 0.06111240643, 0.34470874744},
		{30, 50, 1000, -0.03816632886, -0.00252635632},
		{0, 5, 20, -0.46870087762, -0.04859355068},
		{7, 0, 5000, 0.00063122328, 0.00288721978},
	} {
		low, high := Tango(tt.gains, tt.losses, tt.n, 0.95)
		if !cmp.Equal([]float64{low, high}, []float64{tt.low, tt.high}, cmpopts.EquateApprox(0, 1e-7)) {
			t.Errorf("%d gains, %d losses of %d: got [%.11f, %.11f], want [%.11f, %.11f]", tt.gains, tt.losses, tt.n, low, high, tt.low, tt.high)
		}
	}
	if low, high := Tango(0, 0, 0, 0.95); low != -1 || high != 1 {
		t.Errorf("no samples: got [%v, %v]", low, high)
	}
}

// Coverage of the interval with few discordant pairs, where the normal approximation fails.
func TestTangoCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const n, repetitions = 400, 2000
	for _, p := range []struct{ gain, loss float64 }{{0.002, 0.002}, {0.005, 0.015}, {0, 0.01}} {
		covered := 0
		for range repetitions {
			var gains, losses int
			for range n {
				switch u := rng.Float64(); {
				case u < p.gain:
					gains++
				case u < p.gain+p.loss:
					losses++
				}
			}
			if low, high := Tango(gains, losses, n, 0.95); low <= p.gain-p.loss && p.gain-p.loss <= high {
				covered++
			}
		}
		if rate := float64(covered) / repetitions; rate < 0.935 {
			t.Errorf("%+v: covers in %.1f %%, want about 95 %%", p, 100*rate)
		}
	}
}

// stats.binomtest(gains, gains+losses).pvalue
func TestMcNemar(t *testing.T) {
	for _, tt := range []struct {
		gains, losses int
		want          float64
	}{{2, 12, 0.012939453125}, {12, 2, 0.012939453125}, {5, 5, 1}, {0, 6, 0.03125}, {30, 50, 0.03299261842647619}, {0, 0, 1}} {
		if got := McNemar(tt.gains, tt.losses); !cmp.Equal(got, tt.want, near) {
			t.Errorf("%d, %d: got %v, want %v", tt.gains, tt.losses, got, tt.want)
		}
	}
}

func TestHolm(t *testing.T) {
	got := Holm([]float64{0.01, 0.04, 0.03, 0.005})
	// R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
	if d := cmp.Diff([]float64{0.03, 0.06, 0.06, 0.02}, got, near); d != "" {
		t.Error(d)
	}
}

// stats.binomtest(k, n).proportion_ci(method="exact")
func TestClopperPearson(t *testing.T) {
	for _, tt := range []struct {
		k, n      int
		low, high float64
	}{{95, 100, 0.887165088894537, 0.9835681208182717}, {100, 100, 0.9637833073548094, 1}, {0, 100, 0, 1 - 0.9637833073548094}} {
		low, high := ClopperPearson(tt.k, tt.n, 0.95)
		if !cmp.Equal([]float64{low, high}, []float64{tt.low, tt.high}, near) {
			t.Errorf("%d of %d: got [%v, %v]", tt.k, tt.n, low, high)
		}
	}
}

func TestRequired(t *testing.T) {
	for _, tt := range []struct {
		psi, margin float64
		want        int
	}{{0.02, 0.005, 4947}, {0.01, 0.01, 619}, {0.05, 0.005, 12366}, {0, 0.005, 0}} {
		if got := Required(tt.psi, tt.margin); got != tt.want {
			t.Errorf("psi %v, margin %v: got %d, want %d", tt.psi, tt.margin, got, tt.want)
		}
	}
	if got := Detectable(0.02, Required(0.02, 0.005)); math.Abs(got-0.005) > 1e-6 {
		t.Errorf("detectable is not the inverse of required: %v", got)
	}
}

// d, m = [3,1,-2,5,.5], [4,2,3,6,1]; R = d.sum()/m.sum()
// se = sqrt(5/4 * ((d - R*m)**2).sum()) / m.sum(); R ± stats.t.ppf(.975, 4)*se
func TestClusterRatio(t *testing.T) {
	var r ratio
	for i, d := range []float64{3, 1, -2, 5, 0.5} {
		items := []int{4, 2, 3, 6, 1}[i]
		for range items {
			r.item(0, d/float64(items))
		}
		r.close()
	}
	got := r.paired("x", 0.95)
	if d := cmp.Diff([]float64{0.46875, -0.34651231759073986, 1.2840123175907399}, []float64{got.Delta, got.Low, got.High}, near); d != "" {
		t.Error(d)
	}
	if got.N != 16 || got.Clusters != 5 || got.Method != "cluster-t" {
		t.Errorf("got %+v", got)
	}
}
