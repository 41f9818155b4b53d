"""Values that oracle_test.go compares with, computed by other people's code.

Run with NumPy, SciPy and pycocotools installed:

    python internal/score/testdata/oracle.py
"""

import contextlib
import io
import math

import numpy as np
import scipy.optimize
import scipy.stats
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


class Numbers:
    """The linear congruential generator of oracle_test.go."""

    def __init__(self, seed):
        self.x = seed

    def next(self):
        self.x = (self.x * 1103515245 + 12345) % 2**31
        return self.x / 2**31


def boxes(seed):
    r = Numbers(seed)
    truth, found = [], [[], []]
    for image in range(40):
        for _ in range(int(r.next() * 5)):
            x, y, w, h = 80 * r.next(), 80 * r.next(), 5 + 20 * r.next(), 5 + 20 * r.next()
            cls, crowd = int(r.next() * 3), int(r.next() < 0.1)
            truth.append((image, x, y, w, h, cls, crowd))
            for m in range(2):
                if r.next() < 0.85:
                    s = 2 + m
                    a, b, c, d = (s * (r.next() - 0.5) for _ in range(4))
                    found[m].append((image, x + a, y + b, w + c, h + d, cls, r.next()))
        for m in range(2):
            for _ in range(int(r.next() * 3)):
                x, y, w, h = 80 * r.next(), 80 * r.next(), 5 + 20 * r.next(), 5 + 20 * r.next()
                found[m].append((image, x, y, w, h, int(r.next() * 3), r.next()))
    return truth, found


def coco(truth, found):
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = {
            "info": {},
            "images": [{"id": i + 1} for i in range(40)],
            "categories": [{"id": c, "name": str(c)} for c in range(3)],
            "annotations": [
                {"id": i + 1, "image_id": t[0] + 1, "bbox": list(t[1:5]), "area": t[3] * t[4], "category_id": t[5], "iscrowd": t[6]}
                for i, t in enumerate(truth)
            ],
        }
        gt.createIndex()
        dt = gt.loadRes([{"image_id": f[0] + 1, "bbox": list(f[1:5]), "category_id": f[5], "score": f[6]} for f in found])
        e = COCOeval(gt, dt, "bbox")
        e.evaluate()
        e.accumulate()
        e.summarize()
    # AP, AP50, AP75, AR at 100 boxes, and AP per class
    per = [e.eval["precision"][:, :, c, 0, 2].mean() for c in range(3)]
    return [e.stats[0], e.stats[1], e.stats[2], e.stats[8]], per


truth, found = boxes(7)
for m in range(2):
    print("coco", m, *coco(truth, found[m]))


def ratio_interval(both, gains, losses, n, z=scipy.stats.norm.ppf(0.975)):
    """The score interval of the ratio, its constrained likelihood maximized by a general optimizer."""

    def score(theta):
        x = np.array([both, gains, losses, n - both - gains - losses])
        fit = scipy.optimize.minimize(
            lambda p: -(x[x > 0] * np.log(np.maximum(p[x > 0], 1e-300))).sum() / n,
            (x + 0.5) / (n + 2),
            bounds=[(0, 1)] * 4,
            constraints=[{"type": "eq", "fun": lambda p: p.sum() - 1}, {"type": "eq", "fun": lambda p: p[0] + p[1] - theta * (p[0] + p[2])}],
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 1000},
        )
        return ((both + gains) - theta * (both + losses)) / math.sqrt(n * theta * (fit.x[1] + fit.x[2]))

    at = (both + gains) / (both + losses)
    low = scipy.optimize.brentq(lambda t: score(t) - z, at * 0.05, at * 0.9999)
    high = scipy.optimize.brentq(lambda t: score(t) + z, at * 1.0001, at * 20)
    return low, high


for cells in ((1, 1, 7, 21), (43, 3, 5, 60), (900, 12, 20, 1000), (180, 0, 6, 200)):
    print("ratio", cells, *ratio_interval(*cells))

# Paired t and the one-sample t test behind it.
r = Numbers(3)
a = np.array([r.next() for _ in range(50)])
b = a + 0.1 * np.array([r.next() for _ in range(50)]) - 0.03
d = scipy.stats.ttest_rel(b, a)
ci = d.confidence_interval(0.95)
print("paired-t", d.pvalue, ci.low, ci.high)

# Exact McNemar of 5 gains and 17 losses, as a binomial test.
print("mcnemar", scipy.stats.binomtest(5, 22).pvalue)

# Holm, as statsmodels and R's p.adjust define it: max over j <= i of (m-j+1) p(j).
p = np.sort([0.01, 0.04, 0.03, 0.005])
print("holm", np.minimum(1, np.maximum.accumulate((4 - np.arange(4)) * p)))

# Mean intersection over union of 30 maps of 6 by 5 pixels, 4 classes, 255 ignored.
r = Numbers(11)
confusion = np.zeros((2, 4, 4))
for _ in range(30):
    for _ in range(30):
        t = int(r.next() * 4)
        if r.next() < 0.05:
            t = 255
        for m in range(2):
            c = t if t != 255 and r.next() < 0.8 - 0.1 * m else int(r.next() * 4)
            if t != 255:
                confusion[m, t, c] += 1
for m in range(2):
    i = np.diag(confusion[m])
    iou = i / (confusion[m].sum(0) + confusion[m].sum(1) - i)
    print("miou", m, iou.mean(), i.sum() / confusion[m].sum(), iou)

# Recall at 1 and 5 of 60 embeddings of 8 numbers, 12 identities, each looked up among the others by cosine.
r = Numbers(19)
centre = np.array([[r.next() - 0.5 for _ in range(8)] for _ in range(12)])
for m in range(2):
    v = np.array([centre[i % 12] + (0.6 + 0.3 * m) * np.array([r.next() - 0.5 for _ in range(8)]) for i in range(60)])
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    s = v @ v.T
    np.fill_diagonal(s, -9)
    order = np.argsort(-s, axis=1)
    same = (order % 12) == (np.arange(60) % 12)[:, None]
    print("recall", m, same[:, :1].any(1).mean(), same[:, :5].any(1).mean())
