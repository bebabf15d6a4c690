// What charts share: when they are drawn, labels that keep apart, one metric against another.
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

// The Pareto front, from left to right: what no other row equals in both metrics and beats in one.
function paretoFront(rows, x, y) {
  const beats = (metric, one, two) => (data.metrics[metric].higher ? one > two : one < two);
  const dominates = (one, two) =>
    !beats(x, two.x[0], one.x[0]) &&
    !beats(y, two.y[0], one.y[0]) &&
    (beats(x, one.x[0], two.x[0]) || beats(y, one.y[0], two.y[0]));
  return rows
    .filter((row) => !rows.some((other) => dominates(other, row)))
    .sort((one, two) => one.x[0] - two.x[0]);
}

// The axis of a metric. What diverges is orders of magnitude away from all else.
function axisOf(metric, values, arrow) {
  const { label, unit, higher } = data.metrics[metric];
  const isWide = Math.min(...values) > 0 && Math.max(...values) > 100 * Math.min(...values);
  return {
    label: `${label}${unit && `, ${unit}`} (better ${arrow})`,
    reverse: !higher,
    labelArrow: "none",
    type: isWide ? "log" : "linear",
    nice: true,
    grid: true,
    tickSize: 0,
    ...(isWide && { tickFormat: "~g" }),
  };
}

// Rows with what stands beside and in the tip, a colour, and two metrics: a value, or value, low and
// high. Better is up and to the right.
function plotTradeoff(rows, front, { x, y, width, title }) {
  const [across, up] = ["x", "y"].map((axis) => rows.map((row) => row[axis][0]));
  const stroke = { stroke: "color", strokeOpacity: 0.45, strokeWidth: 1.5 };
  const place = { x: (row) => row.x[0], y: (row) => row.y[0] };
  return spread(
    Plot.plot({
      width,
      height: clamp(width * 0.55, 300, 480),
      marginLeft: 58,
      marginBottom: 40,
      marginRight: 24,
      style: { background: "none", fontSize: "12px" },
      ariaLabel: title,
      x: { ...axisOf(x, across, "\u2192"), inset: 14, ticks: clamp(width / 110, 3, 8) },
      y: { ...axisOf(y, up, "\u2191"), inset: 14, ticks: 6 },
      color: { type: "identity" },
      marks: [
        Plot.lineY(front, { ...place, stroke: "var(--muted)", strokeDasharray: "2 4" }),
        Plot.ruleY(
          rows.filter((row) => row.x[1] != null),
          { y: place.y, x1: (row) => row.x[1], x2: (row) => row.x[2], ...stroke },
        ),
        Plot.ruleX(
          rows.filter((row) => row.y[1] != null),
          { x: place.x, y1: (row) => row.y[1], y2: (row) => row.y[2], ...stroke },
        ),
        Plot.dot(rows, { ...place, r: 5, fill: "color" }),
        Plot.text(rows, {
          ...place,
          text: "label",
          dx: 9,
          textAnchor: "start",
          fill: "currentColor",
          stroke: "var(--surface)",
          strokeWidth: 4,
        }),
        Plot.tip(
          rows,
          Plot.pointer({ ...place, title: "tip" }),
        ),
      ],
    }),
  );
}
