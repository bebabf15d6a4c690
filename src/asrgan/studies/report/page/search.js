// The charts of a search: its Pareto front or its history, its parameters, its curves.
{
  const complete = data.trials.filter((trial) => trial.values.length);
  complete.sort((one, two) => one.best - two.best); // the best are drawn last, on top
  const colorOf = (trial) => {
    if (trial.best) return "var(--hue-1)";
    return trial.values.length ? "var(--hue-0)" : "var(--muted)";
  };
  const options = data.objectives.map((name) => [name, data.metrics[name].label]);

  function describe(trial) {
    const values = trial.values.map((value, i) => {
      const name = data.objectives[i];
      return `${data.metrics[name].label} ${format(value, name)}`;
    });
    const params = Object.entries(trial.params).map(([key, value]) => `${key}=${value}`);
    return [`Trial ${trial.number}`, ...values, ...params].join("\n");
  }

  const upward = (name, values) => ({ ...axisOf(name, values, "\u2191"), inset: 8, ticks: 5 });
  // Whole numbers have no ticks between them.
  const countsOf = (values) =>
    values.every(Number.isInteger) && {
      tickFormat: "d",
      ticks: Math.min(5, Math.max(...values) - Math.min(...values)),
    };
  const wordsOf = (values) =>
    [...new Set(values)].sort((one, two) => one.localeCompare(two, undefined, { numeric: true }));
  const common = (width, height) => ({
    width,
    height,
    marginLeft: 58,
    marginBottom: 36,
    style: { background: "none", fontSize: "11.5px" },
    color: { type: "identity" },
  });

  const front = find("front-chart");
  if (front) {
    const selects = ["x", "y"].map((part) => find(`front-${part}`));
    selects.forEach((select, i) => select && fill(select, options, data.objectives[i]));
    const refresh = lazily(front, (width) => {
      const [x, y] = selects.map((select, i) => select?.value ?? data.objectives[i]);
      const rows = complete.map((trial) => ({
        tip: describe(trial),
        label: trial.best ? String(trial.number) : "",
        color: colorOf(trial),
        x: [trial.values[data.objectives.indexOf(x)]],
        y: [trial.values[data.objectives.indexOf(y)]],
      }));
      const joined = data.objectives.length === 2 ? paretoFront(rows, x, y) : [];
      return plotTradeoff(rows, joined, { x, y, width, title: "Trials by two objectives" });
    });
    for (const select of selects) select?.addEventListener("change", refresh);
  }

  const history = find("history-chart");
  if (history) {
    const [name] = data.objectives;
    const last = data.trials.length - 1;
    const better = data.metrics[name].higher ? Math.max : Math.min;
    const inOrder = [...complete].sort((one, two) => one.number - two.number);
    let best = inOrder[0].values[0];
    const steps = inOrder.map((trial) => ({ number: trial.number, best: (best = better(best, trial.values[0])) }));
    lazily(history, (width) =>
      Plot.plot({
        ...common(width, clamp(width * 0.45, 240, 400)),
        ariaLabel: "Trials in their order",
        x: {
          label: "trial",
          domain: [0, last],
          inset: 8,
          tickFormat: "d",
          ticks: Math.min(last, clamp(width / 110, 3, 8)),
        },
        y: upward(name, complete.map((trial) => trial.values[0])),
        marks: [
          Plot.lineY(steps, { x: "number", y: "best", curve: "step-after", stroke: "var(--muted)" }),
          Plot.dot(complete, { x: "number", y: (trial) => trial.values[0], r: 4.5, fill: colorOf }),
          Plot.tip(complete, Plot.pointer({ x: "number", y: (trial) => trial.values[0], title: describe })),
        ],
      }),
    );
  }

  const parameters = find("parameters-charts");
  if (parameters) {
    const select = find("parameters-objective");
    if (select) fill(select, options, data.objectives[0]);
    const chosen = () => select?.value ?? data.objectives[0];
    const share = (key) => data.importances[chosen()]?.[key];
    const panels = Object.entries(data.axes).map(([key, axis]) => {
      const told = make("span");
      const chart = make("div", { class: "chart" });
      const figure = make(
        "figure",
        { class: "panel" },
        make("figcaption", {}, make("b", {}, key), told),
        chart,
      );
      parameters.append(figure);
      const refresh = lazily(chart, (width) => {
        const place = data.objectives.indexOf(chosen());
        const shown = complete.filter((trial) => key in trial.params);
        const at = { x: (trial) => trial.params[key], y: (trial) => trial.values[place] };
        return Plot.plot({
          ...common(width, 220),
          ariaLabel: `${data.metrics[chosen()].label} by ${key}`,
          x: {
            type: axis === "words" ? "point" : axis,
            label: null,
            inset: 10,
            ...(axis === "words" && { domain: wordsOf(shown.map(at.x)) }),
            ticks: clamp(width / 90, 3, 6),
            ...(axis === "log" && { tickFormat: "~g" }),
            ...(axis === "linear" && countsOf(shown.map(at.x))),
          },
          y: upward(chosen(), complete.map((trial) => trial.values[place])),
          marks: [
            Plot.dot(shown, { ...at, r: 4, fill: colorOf, fillOpacity: 0.85 }),
            Plot.tip(shown, Plot.pointer({ ...at, title: describe })),
          ],
        });
      });
      return { key, figure, told, refresh };
    });
    const show = () => {
      panels.sort((one, two) => (share(two.key) ?? 0) - (share(one.key) ?? 0));
      for (const { key, figure, told, refresh } of panels) {
        told.textContent = share(key) == null ? "" : ` importance ${Math.round(100 * share(key))}%`;
        parameters.append(figure);
        refresh();
      }
    };
    select?.addEventListener("change", show);
    show();
  }

  const curves = find("curves-chart");
  if (curves) {
    const [name] = data.objectives;
    const rows = [...data.trials]
      .sort((one, two) => one.best - two.best)
      .flatMap((trial) =>
        trial.reports[0].map((iteration, i) => ({ iteration, score: trial.reports[1][i], trial })),
      );
    const at = { x: "iteration", y: "score" };
    lazily(curves, (width) =>
      Plot.plot({
        ...common(width, clamp(width * 0.45, 240, 420)),
        ariaLabel: "Validation of all trials over the iterations",
        x: { label: "iteration", ticks: clamp(width / 110, 3, 8), inset: 8 },
        y: upward(name, rows.map((row) => row.score).filter((score) => score != null)),
        marks: [
          Plot.lineY(rows, { ...at, z: (row) => row.trial.number, stroke: (row) => colorOf(row.trial) }),
          Plot.dot(rows, { ...at, r: 2.5, fill: (row) => colorOf(row.trial) }),
          Plot.tip(rows, Plot.pointer({ ...at, title: (row) => describe(row.trial) })),
        ],
      }),
    );
  }
}
