"""Many pictures: a recipe, a list of originals, and a folder that remembers what is done."""

from asrgan.inference.jobs.cluster import RayEngine
from asrgan.inference.jobs.folders import folder_at, is_remote
from asrgan.inference.jobs.listing import LIST_SUFFIXES, Job, find_jobs
from asrgan.inference.jobs.local import LocalEngine
from asrgan.inference.jobs.recipe import Recipe
from asrgan.inference.jobs.results import TABLE, Result, Results
from asrgan.inference.jobs.worker import Worker, one_line_for_the_disk

__all__ = [
    "LIST_SUFFIXES",
    "TABLE",
    "Job",
    "LocalEngine",
    "RayEngine",
    "Recipe",
    "Result",
    "Results",
    "Worker",
    "find_jobs",
    "folder_at",
    "is_remote",
    "one_line_for_the_disk",
]
