// Curves, health and trade-off of a study.
{
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

  // A line for each variant, dashed further for the second column of a panel.
  function curves(columns, { width, height, log, title, label }) {
    const marks = [];
    const shown = Object.keys(data.styles).filter((model) => isVariant(model) && isShown(model));
    const fillOpacity = Math.min(0.16, 1 / shown.length); // many bands lie on each other
    columns.forEach((column, number) => {
      for (const [model, [x, mean, low, high]] of Object.entries(data.curves[column] ?? {})) {
        if (!isShown(model)) continue;
        const { color, dash } = data.styles[model];
        const rows = x.map((iteration, i) => ({
          iteration,
          mean: mean[i],
          low: low[i],
          high: high[i],
          model,
          column,
        }));
        marks.push(
          Plot.areaY(rows, { x: "iteration", y1: "low", y2: "high", fill: color, fillOpacity }),
          Plot.lineY(rows, {
            x: "iteration",
            y: "mean",
            stroke: color,
            strokeWidth: model === data.baseline ? 2 : 1.6,
            strokeDasharray: number ? "2 3" : dash || null,
          }),
        );
        if (rows.length === 1) marks.push(Plot.dot(rows, { x: "iteration", y: "mean", fill: color }));
        marks.push(
          Plot.tip(
            rows,
            Plot.pointer({
              x: "iteration",
              y: "mean",
              title: (row) =>
                `${row.model}${columns.length > 1 ? `\n${row.column.split("/").slice(1).join("/")}` : ""}\n` +
                `iteration ${row.iteration.toFixed(0)}\n${row.mean} [${row.low}, ${row.high}]`,
              maxRadius: 14,
            }),
          ),
        );
      }
    });
    return Plot.plot({
      width,
      height,
      marginLeft: 52,
      marginBottom: 34,
      style: { background: "none", fontSize: "11.5px" },
      ariaLabel: title,
      x: {
        label: "iteration",
        tickFormat: (value) => short.format(value),
        ticks: Math.max(3, width / 110),
        insetRight: 6,
      },
      y: {
        label,
        grid: true,
        tickSize: 0,
        type: log ? "log" : "linear",
        ticks: height > 220 ? 6 : 4,
        nice: !log,
        ...(log && { tickFormat: "~g" }),
      },
      marks,
    });
  }

  const curve = find("curves-chart");
  if (curve) {
    const select = find("curves-column");
    const name = (column) => {
      const [, benchmark, metric] = column.match(/^val\/(.*)\/(.*)$/);
      return [data.metrics[metric].label, benchmark, metric];
    };
    fill(
      select,
      data.validation.map((column) => [column, name(column).slice(0, 2).join(", ")]),
      data.validation.find((column) => name(column)[2] === data.metric),
    );
    const refresh = lazily(curve, (width) => {
      const [label, benchmark, metric] = name(select.value);
      const { higher, unit } = data.metrics[metric];
      return curves([select.value], {
        width,
        height: clamp(width * 0.45, 240, 420),
        title: `${label} on ${benchmark} over the iterations`,
        label: `${label}${unit && `, ${unit}`}, ${higher ? "higher" : "lower"} is better`,
      });
    });
    select.addEventListener("change", refresh);
  }

  for (const panel of data.health) {
    const figure = make("div", { class: "chart" });
    const [first, ...others] = panel.columns.map((column) => column.split("/").at(-1));
    const lines = others.length ? ` ${first} solid, ${others.join(", ")} dotted` : "";
    find("health-charts").append(
      make("figure", { class: "panel" }, make("figcaption", {}, make("b", {}, panel.title), lines), figure),
    );
    lazily(figure, (width) =>
      curves(panel.columns, {
        width,
        height: 210,
        log: panel.log,
        title: `${panel.title} over the iterations`,
        label: null,
      }),
    );
  }

  const tradeoff = find("tradeoff-chart");
  if (tradeoff) {
    const [across, up, pictures] = ["x", "y", "benchmark"].map((part) => find(`tradeoff-${part}`));
    const benchmarks = Object.keys(data.means);
    const names = Object.keys(data.metrics).filter((metric) =>
      benchmarks.some((benchmark) => Object.values(data.means[benchmark]).some((means) => metric in means)),
    );
    const options = names.map((metric) => [metric, data.metrics[metric].label]);
    const perceptual = names.find((metric) => /lpips|dists|niqe/.test(metric));
    const fidelity = names.find((metric) => /psnr/.test(metric)) ?? names[0];
    fill(across, options, fidelity);
    fill(up, options, perceptual ?? names.find((metric) => metric !== fidelity));
    const refresh = lazily(tradeoff, (width) => {
      const [x, y] = [across.value, up.value];
      const means = data.means[pictures?.value ?? benchmarks[0]];
      const rows = Object.entries(means)
        .filter(([model, values]) => values[x] && values[y] && (!isVariant(model) || isShown(model)))
        .map(([model, values]) => ({
          label: model,
          tip:
            `${model}\n${data.metrics[x].label} ${format(values[x][0], x)}\n` +
            `${data.metrics[y].label} ${format(values[y][0], y)}`,
          color: data.styles[model].color,
          x: values[x],
          y: values[y],
        }));
      const front = paretoFront(rows, x, y);
      find("tradeoff-front").textContent =
        `No other is better in both: ${front.map((row) => row.label).join(", ")}.`;
      return plotTradeoff(rows, front, { x, y, width, title: "Recipes by two metrics" });
    });
    for (const select of [across, up, pictures]) select?.addEventListener("change", refresh);
  }
}
