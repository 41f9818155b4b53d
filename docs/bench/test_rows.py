"""python3 -m unittest, in this folder."""
import io, os, sys, tempfile, unittest
import common, rows


class Rows(unittest.TestCase):
    def test_mcnemar(self):
        for x, y, want in (([1, 1, 0], [1, 1, 0], 1.0), ([1] * 5, [0] * 5, 0.0625), ([1, 1, 1, 0], [0, 0, 0, 1], 0.625)):
            self.assertAlmostEqual(rows.mcnemar(x, y), want)

    def test_spread(self):
        self.assertEqual(common.spread([3, 1, 2], unit="s"), "2.00 (1.00–3.00) s")
        self.assertEqual(common.spread([4], "{:.0f}"), "4")
        self.assertEqual(common.median([1, 2, 3, 10]), 2.5)

    def test_call(self):
        with tempfile.TemporaryFile("w+") as log:
            became, seconds, cpu, peak = common.call([sys.executable, "-c", "b = bytearray(200 << 20); import time; time.sleep(0.3); sum(range(10**6))"], 60, log)
            self.assertEqual(became, "ok")
            self.assertGreater(seconds, 0.3)
            self.assertGreater(cpu, 0)
            self.assertLess(cpu, seconds + 1)
            self.assertTrue(200 << 20 < peak < 400 << 20, peak)
            self.assertEqual(common.call([sys.executable, "-c", "raise SystemExit(3)"], 60, log)[0], "failed")
            self.assertEqual(common.call([sys.executable, "-c", "import time; time.sleep(60)"], 0.3, log)[0], "too slow")

    def test_copy(self):
        with tempfile.TemporaryDirectory() as d:
            with open(d + "/a", "wb") as f:
                f.write(os.urandom(3 << 20) + b"end")
            rows.copy(d + "/a", d + "/b", (2 << 20) + 5)
            with open(d + "/a", "rb") as f, open(d + "/b", "rb") as g:
                self.assertTrue(f.read().startswith(g.read()))
            self.assertGreaterEqual(os.path.getsize(d + "/b"), (2 << 20) + 5)

    def test_page(self):
        kept = {"bert": {"date": "2026-01-02", "commit": "abc", "load": 0.1, "seconds": 9, "machine": "m", "versions": "v",
                         "lines": [rows.line("x", "7× faster", "≥ 20×", False, "1 s", "7 s"), rows.line("x", "0.05", "≤ 0.25", True, "", ""), rows.line("y", "z", "", None, "")]}}
        text = "\n".join(rows.page(kept))
        self.assertIn("1 of 2 targets are reached.", text)
        self.assertIn("| x | 7× faster | ≥ 20× | **no** | 1 s | 7 s |  |", text)
        self.assertEqual(text.count("Not measured yet"), len(rows.ROWS) - 1)

    def test_failed_row(self):
        class A:
            log, work = io.StringIO(), tempfile.gettempdir() + "/none"
        rows.ROWS["bad"], versions = ("t", lambda a: 1 / 0), rows.versions
        rows.versions = lambda *p: ""
        try:
            self.assertIn("ZeroDivisionError", rows.measured(A, "bad")["failed"])
        finally:
            del rows.ROWS["bad"]
            rows.versions = versions


if __name__ == "__main__":
    unittest.main()
