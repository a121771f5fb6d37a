"""Tests of `peers_summary.py`: python -m unittest discover -s tools"""

import unittest

import peers_summary as summary


class Rounds(unittest.TestCase):
    def test_median_on_one_thread_best_on_more(self):
        self.assertEqual(summary.of_rounds([3.0, 1.0, 2.0], 1), 2.0)
        self.assertEqual(summary.of_rounds([3.0, 1.0, 2.0], 2), 1.0)

    def test_rounds_without_a_figure(self):
        self.assertEqual(summary.of_rounds([None, 4.0], 1), 4.0)
        self.assertIsNone(summary.of_rounds([None], 1))
        self.assertIsNone(summary.of_rounds([], 2))


class Ratios(unittest.TestCase):
    def test_against_the_fastest_that_has_a_figure(self):
        figures = {"anychip": 2.0, "slow": 8.0, "fast": 4.0, "failed": None}
        self.assertEqual(summary.fastest_peer(figures), "fast")
        self.assertEqual(summary.ratio(figures, "fast"), 0.5)
        self.assertIsNone(summary.ratio(figures, "failed"))
        self.assertIsNone(summary.ratio({"fast": 1.0}, "fast"))

    def test_nobody_to_compare_with(self):
        self.assertIsNone(summary.fastest_peer({"anychip": 1.0, "failed": None}))

    def test_geometric_mean(self):
        self.assertAlmostEqual(summary.geometric_mean([0.5, 2.0]), 1.0)
        self.assertIsNone(summary.geometric_mean([]))


class Rows(unittest.TestCase):
    def test_a_failure_is_shown(self):
        figures = {"anychip": 0.0125, "onnxruntime": 0.025, "tract": None}
        row = summary.latency_row("m", figures, ["anychip", "onnxruntime", "tract"], 0.48)
        self.assertEqual(row, ["m", "12.50", "25.00", "–", "0.50", "onnxruntime", "0.48"])

    def test_our_own_failure_is_shown(self):
        row = summary.latency_row("m", {"anychip": None, "onnxruntime": 0.025}, ["anychip", "onnxruntime"], None)
        self.assertEqual(row, ["m", "–", "25.00", "–", "onnxruntime", "–"])

    def test_columns_line_up(self):
        table = summary.Table(["model", "anychip", "a-longer-runtime"])
        self.assertEqual(len(table.head()), len(table.row(["resnet50", "1.00", "–"])))

    def test_summary(self):
        self.assertIn("0.500, worst 1.000 (b)", summary.summary({"a": 0.25, "b": 1.0}))
        self.assertIn("no model", summary.summary({}))


if __name__ == "__main__":
    unittest.main()
