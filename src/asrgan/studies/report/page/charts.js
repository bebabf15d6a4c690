// Curves, health and trade-off, drawn by Observable Plot once they come into sight.
{
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

  function lazily(figure, draw) {
    let isDrawn = false;
    let width = 0;
    const redraw = () => {
      isDrawn = true;
      width = figure.clientWidth;
      figure.replaceChildren(draw(width));
    };
    const observer = new IntersectionObserver(
      (entries) => entries.some((entry) => entry.isIntersecting) && !isDrawn && redraw(),
      { rootMargin: "300px" },
    );
    observer.observe(figure);
    new ResizeObserver(() => isDrawn && Math.abs(figure.clientWidth - width) > 1 && redraw()).observe(figure);
    addEventListener("beforeprint", redraw);
    const refresh = () => isDrawn && redraw();
    onVisibility.push(refresh);
    return refresh;
  }

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

  // Moves labels that lie on each other, or leave the picture, to the nearest free place.
  function spread(plot) {
    requestAnimationFrame(() => {
      const frame = plot.getBoundingClientRect();
      const boxOf = (element) => element.getBoundingClientRect();
      const taken = [...plot.querySelectorAll("[aria-label=dot] circle")].map(boxOf);
      for (const label of plot.querySelectorAll("[aria-label=text] text")) {
        const { x, y, width, height } = boxOf(label);
        const places = [0, -1, 1, -2, 2, -3, 3].flatMap((line) => [
          [0, line],
          [-width - 18, line],
        ]);
        const free = places
          .map(([dx, line]) => new DOMRect(x + dx, y + line * height * 0.9, width, height))
          .find(
            (box) =>
              box.left > frame.left + 50 &&
              box.right < frame.right &&
              taken.every(
                (other) =>
                  box.right < other.left ||
                  box.left > other.right ||
                  box.bottom < other.top + 1 ||
                  box.top > other.bottom - 1,
              ),
          );
        if (!free) continue;
        label.style.translate = `${free.x - x}px ${free.y - y}px`;
        taken.push(free);
      }
    });
    return plot;
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
        .map(([model, values]) => ({ model, color: data.styles[model].color, x: values[x], y: values[y] }));
      const scale = (metric, arrow) => {
        const { label, unit, higher } = data.metrics[metric];
        return {
          label: `${label}${unit && `, ${unit}`} (better ${arrow})`,
          reverse: !higher,
          labelArrow: "none",
          nice: true,
          grid: true,
          inset: 14,
          tickSize: 0,
          ticks: 6,
        };
      };
      // The Pareto front: what no other recipe equals in both and beats in one.
      const beats = (metric, one, two) => (data.metrics[metric].higher ? one > two : one < two);
      const dominates = (one, two) =>
        !beats(x, two.x[0], one.x[0]) &&
        !beats(y, two.y[0], one.y[0]) &&
        (beats(x, one.x[0], two.x[0]) || beats(y, one.y[0], two.y[0]));
      const front = rows
        .filter((row) => !rows.some((other) => dominates(other, row)))
        .sort((one, two) => one.x[0] - two.x[0]);
      find("tradeoff-front").textContent =
        `No other is better in both: ${front.map((row) => row.model).join(", ")}.`;
      const stroke = { stroke: "color", strokeOpacity: 0.45, strokeWidth: 1.5 };
      return spread(
        Plot.plot({
          width,
          height: clamp(width * 0.55, 300, 480),
          marginLeft: 58,
          marginBottom: 40,
          marginRight: 24,
          style: { background: "none", fontSize: "12px" },
          ariaLabel: "Recipes by two metrics",
          x: { ...scale(x, "\u2192"), ticks: clamp(width / 110, 3, 8) },
          y: scale(y, "\u2191"),
          color: { type: "identity" },
          marks: [
            Plot.lineY(front, {
              x: (row) => row.x[0],
              y: (row) => row.y[0],
              stroke: "var(--muted)",
              strokeDasharray: "2 4",
            }),
            Plot.ruleY(
              rows.filter((row) => row.x[1] != null),
              { y: (row) => row.y[0], x1: (row) => row.x[1], x2: (row) => row.x[2], ...stroke },
            ),
            Plot.ruleX(
              rows.filter((row) => row.y[1] != null),
              { x: (row) => row.x[0], y1: (row) => row.y[1], y2: (row) => row.y[2], ...stroke },
            ),
            Plot.dot(rows, { x: (row) => row.x[0], y: (row) => row.y[0], r: 5, fill: "color" }),
            Plot.text(rows, {
              x: (row) => row.x[0],
              y: (row) => row.y[0],
              text: "model",
              dx: 9,
              textAnchor: "start",
              fill: "currentColor",
              stroke: "var(--surface)",
              strokeWidth: 4,
            }),
            Plot.tip(
              rows,
              Plot.pointer({
                x: (row) => row.x[0],
                y: (row) => row.y[0],
                title: (row) =>
                  `${row.model}\n${data.metrics[x].label} ${format(row.x[0], x)}\n${data.metrics[y].label} ${format(row.y[0], y)}`,
              }),
            ),
          ],
        }),
      );
    });
    for (const select of [across, up, pictures]) select?.addEventListener("change", refresh);
  }
}
