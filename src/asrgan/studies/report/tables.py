"""The numbers of a study as tables: CSV for programs, Markdown and LaTeX for papers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asrgan.console import markdown_table
from asrgan.metrics import METRICS
from asrgan.studies.report.costs import RESULT_PX, Cost
from asrgan.studies.report.results import ALL, StudyResults
from asrgan.studies.report.summary import SummaryLine, heading, label, name_of
from asrgan.studies.report.verdicts import MINUS, Comparison, effect_word
from asrgan.studies.tables import Row, write_rows

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    MINUS: r"$-$", "±": r"$\pm$", "²": r"\textsuperscript{2}", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$", "▲": r"$^{+}$", "▼": r"$^{-}$",
    "<": "$<$", ">": "$>$", "|": "$|$",
}  # fmt: skip
VERDICTS = "verdicts"
"""Key of the table that a study is made for."""
_MARKS = {"better": " ▲", "worse": " ▼", None: ""}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of text.

    Attributes:
        key: one word, for references.
        title: what it shows.
        note: how to read it.
        headings: of the columns.
        lines: of cells.
        alignment: of each column, ``l`` or ``r``.
    """

    key: str
    title: str
    note: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    alignment: str


def verdict_table(results: StudyResults, comparisons: Sequence[Comparison]) -> Table:
    """The comparison that the study was made for."""
    lines: list[list[str]] = []
    for c in comparisons:
        if (c.benchmark, c.metric) == (ALL, results.metric):
            seeds = str(c.effect.num_seeds) if c.effect else "0"
            lines.append([c.variant, c.text, seeds, p_value_text(c.adjusted_p)])
    return Table(
        key=VERDICTS,
        title=f"{label(METRICS[results.metric])} of each variant against {results.baseline}",
        note="Over all pictures, with 95% intervals over seeds and pictures.",
        headings=["variant", "verdict", "seeds", "p (Holm)"],
        lines=lines,
        alignment="llrr",
    )


def p_value_text(p_value: float | None) -> str:
    """Three digits; the draws of the bootstrap give no more."""
    if p_value is None:
        return ""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def result_tables(
    results: StudyResults, summary: Sequence[SummaryLine], comparisons: Sequence[Comparison]
) -> list[Table]:
    """Means and standard deviations over seeds, a table for each benchmark."""
    found = {(c.benchmark, c.variant, c.metric): effect_word(c) for c in comparisons if c.is_shown}
    tables: list[Table] = []
    for benchmark in dict.fromkeys(line.benchmark for line in summary):
        chosen = [line for line in summary if line.benchmark == benchmark]
        metrics = [name for name in results.metrics if any(name in line.means for line in chosen)]
        lines: list[list[str]] = []
        for line in chosen:
            num_seeds = max(mean.num_seeds for mean in line.means.values())
            seeds = "" if line.kind == "reference" else str(num_seeds)
            cells = [
                _mean_cell(line, m) + _MARKS[found.get((benchmark, line.model, m))] for m in metrics
            ]
            lines.append([line.model, seeds, *cells])
        tables.append(
            Table(
                key=f"results-{len(tables)}",
                title=f"{name_of(benchmark)} ({chosen[0].num_images})",
                note="Mean over pictures and seeds ± standard deviation over seeds; ▲ shown to be"
                f" better than {results.baseline}, ▼ worse, adjusted for all variants of a column.",
                headings=["model", "seeds", *(heading(METRICS[name]) for name in metrics)],
                lines=lines,
                alignment="l" + "r" * (1 + len(metrics)),
            )
        )
    return tables


def _mean_cell(line: SummaryLine, metric: str) -> str:
    mean = line.means.get(metric)
    if mean is None:
        return ""
    digits = METRICS[metric].digits
    text = f"{mean.mean:.{digits}f}".replace("-", MINUS)
    return text if mean.deviation is None else f"{text} ± {mean.deviation:.{digits}f}"


def cost_table(costs: Mapping[str, Cost]) -> Table:
    """What each recipe costs."""
    lines = {model: cost_cells(cost) for model, cost in costs.items()}
    headings = ["model", *next(iter(lines.values()))]
    return Table(
        key="costs",
        title="Costs",
        note=f"Multiply-adds and memory (on a CPU in float32, beside the loaded program) are the"
        f" generator's for a result of {RESULT_PX} x {RESULT_PX} px.",
        headings=headings,
        lines=[[model, *cells.values()] for model, cells in lines.items()],
        alignment="l" + "r" * (len(headings) - 1),
    )


def cost_cells(cost: Cost) -> dict[str, str]:
    """A line of the table of costs, by its headings; what is not known is empty."""

    def text(value: float | None, *, unit: float, digits: int) -> str:
        return "" if value is None else f"{value / unit:.{digits}f}"

    return {
        "parameters, M": text(cost.parameters, unit=1e6, digits=3),
        f"multiply-adds at {RESULT_PX}², G": text(cost.multiply_adds, unit=1e9, digits=1),
        "training memory, GiB": text(cost.training_mib, unit=1024, digits=2),
        f"memory at {RESULT_PX}², MiB": text(cost.use_mib, unit=1, digits=0),
        "crops/s in training": text(cost.images_per_s, unit=1, digits=1),
        "hours": text(cost.hours, unit=1, digits=2),
    }


def as_markdown(table: Table) -> str:
    """Lines with aligned columns."""
    lines = [[c.replace("|", r"\|") for c in line] for line in [table.headings, *table.lines]]
    return markdown_table(lines, alignment=table.alignment)


def as_latex(table: Table) -> str:
    r"""A table with the rules of booktabs; its label is ``tab:KEY``."""
    rows = [
        " & ".join(_escaped(cell) for cell in line) + r" \\"
        for line in [table.headings, *table.lines]
    ]
    body = [r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule"]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_escaped(f'{table.title}. {table.note}')}}}",
            rf"  \label{{tab:{table.key}}}",
            rf"  \begin{{tabular}}{{{table.alignment}}}",
            *(f"    {line}" for line in body),
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def write_csv_tables(
    folder: Path,
    *,
    results: StudyResults,
    summary: Sequence[SummaryLine],
    comparisons: Sequence[Comparison],
    costs: Mapping[str, Cost],
) -> None:
    """Writes ``summary.csv``, ``comparisons.csv`` and ``costs.csv``, with all digits."""
    means = [_summary_row(line, results.metrics) for line in summary]
    differences = [_comparison_row(c, baseline=results.baseline) for c in comparisons]
    spent: list[Row] = [{"model": model, **vars(cost)} for model, cost in costs.items()]
    for name, rows in (("summary", means), ("comparisons", differences), ("costs", spent)):
        if rows:
            write_rows(folder / f"{name}.csv", rows, columns=list(rows[0]))
        else:
            (folder / f"{name}.csv").unlink(missing_ok=True)  # of an earlier report


def _summary_row(line: SummaryLine, metrics: Sequence[str]) -> Row:
    row: Row = {
        "benchmark": line.benchmark,
        "kind": line.kind,
        "model": line.model,
        "images": line.num_images,
    }
    for metric in metrics:
        mean = line.means.get(metric)
        row |= {
            metric: mean and mean.mean,
            f"{metric}_sd": mean and mean.deviation,
            f"{metric}_low": mean and mean.low,
            f"{metric}_high": mean and mean.high,
            f"{metric}_seeds": mean and mean.num_seeds,
        }
    return row


def _comparison_row(comparison: Comparison, *, baseline: str) -> Row:
    effect = comparison.effect
    return {
        "benchmark": comparison.benchmark,
        "metric": comparison.metric,
        "variant": comparison.variant,
        "baseline": baseline,
        "difference": effect and effect.mean,
        "low": effect and effect.low,
        "high": effect and effect.high,
        "p": effect and effect.p_value,
        "p_holm": comparison.adjusted_p,
        "seeds": effect and effect.num_seeds,
        "images": effect and effect.num_images,
        "finding": comparison.finding,
        "verdict": comparison.text,
    }
