"""The report of a study: statistics, tables, pictures, one page."""

from asrgan.studies.report.examples import CropExample, make_examples, shown_runs
from asrgan.studies.report.loading import load_results, open_benchmarks
from asrgan.studies.report.report import Findings, find, write_report
from asrgan.studies.report.results import ALL, ImageScores, Run, StudyResults
from asrgan.studies.report.search_report import write_search_report
from asrgan.studies.report.verdicts import Comparison, compare, headline
from asrgan.studies.report.wandb_report import WandbReport, parse_project

__all__ = [
    "ALL",
    "Comparison",
    "CropExample",
    "Findings",
    "ImageScores",
    "Run",
    "StudyResults",
    "WandbReport",
    "compare",
    "find",
    "headline",
    "load_results",
    "make_examples",
    "open_benchmarks",
    "parse_project",
    "shown_runs",
    "write_report",
    "write_search_report",
]
