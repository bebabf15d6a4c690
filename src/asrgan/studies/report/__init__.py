"""The report of a study: statistics, tables, pictures, one page."""

from asrgan.studies.report.examples import CropExample, make_examples, shown_runs
from asrgan.studies.report.loading import load_results, open_benchmarks
from asrgan.studies.report.report import write_report
from asrgan.studies.report.results import ImageScores, Run, StudyResults
from asrgan.studies.report.verdicts import Comparison, compare, headline

__all__ = [
    "Comparison",
    "CropExample",
    "ImageScores",
    "Run",
    "StudyResults",
    "compare",
    "headline",
    "load_results",
    "make_examples",
    "open_benchmarks",
    "shown_runs",
    "write_report",
]
