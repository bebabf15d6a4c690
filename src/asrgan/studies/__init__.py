"""Many results -> statistics -> tables."""

from asrgan.studies.tables import Row, as_markdown, summarize, write_rows

__all__ = ["Row", "as_markdown", "summarize", "write_rows"]
