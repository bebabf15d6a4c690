// Crops of all recipes that zoom and move together, and a divider between any two of them.
if (find("pictures")) {
  const [left, right, order, by, strip, tiles] = [
    "left",
    "right",
    "order",
    "order-metric",
    "strip",
    "tiles",
  ].map(find);
  const divider = find("divider");
  const compare = find("compare");
  const contents = data.examples.map(() => null);
  const views = new Map(); // element -> its pictures
  const state = { example: 0, zoom: 4, x: 0, y: 0 }; // x and y: the point in the middle, in px of the crop

  const content = (index) => (contents[index] ??= JSON.parse(find(`example-${index}`).textContent));
  const example = () => data.examples[state.example];
  const side = () => example().place[2];
  const nameOf = (example) => `${example.image} (${example.benchmark})`;

  // Which crops can be compared; a version is called by its kind, too: a variant may be called HR.
  const keyOf = ({ kind, name }) => `${kind}:${name}`;
  const versions = new Map(data.versions.map((version) => [keyOf(version), version.name]));
  const options = [...versions];
  const variants = options.filter(([key]) => key.startsWith("variant:"));
  const baseline = `variant:${data.baseline}`;
  fill(left, options, versions.has(baseline) ? baseline : options[0][0]);
  fill(right, options, (variants.find(([key]) => key !== baseline) ?? options.at(-1))[0]);

  const cropMetrics = [
    ...new Set(data.examples.flatMap((e) => Object.values(e.crop_scores).flatMap(Object.keys))),
  ];
  fill(by, [
    ...cropMetrics.map((metric) => [`crop ${metric}`, `${data.metrics[metric].label} of the crop`]),
    [`picture ${data.metric}`, `${data.metrics[data.metric].label} of the picture`],
  ]);

  function score(example, key, choice) {
    const [scope, metric] = choice.split(" ");
    const name = key.slice(key.indexOf(":") + 1);
    if (/^(input|truth):/.test(key)) return null;
    return (scope === "crop" ? example.crop_scores[name]?.[metric] : example.scores[name]) ?? null;
  }

  function gain(example) {
    const [one, two] = [left.value, right.value].map((key) => score(example, key, by.value));
    if (one == null || two == null) return null;
    return (data.metrics[by.value.split(" ")[1]].higher ? 1 : -1) * (two - one);
  }

  // In percent of what it lies in, so that paper of another width shows the same.
  function lay(element, [x, y, width, height], [wholeWidth, wholeHeight]) {
    const percent = (part, whole) => `${(100 * part) / whole}%`;
    Object.assign(element.style, {
      left: percent(x, wholeWidth),
      top: percent(y, wholeHeight),
      width: percent(width, wholeWidth),
      height: percent(height, wholeHeight),
    });
  }

  // Views: a window onto a crop. All show the same point in their middle.
  function place(view) {
    const { clientWidth: width, clientHeight: height } = view;
    if (!width) return;
    const size = side();
    const scale = state.zoom === "fit" ? Math.min(width, height) / size : state.zoom;
    const start = (length, centre) =>
      size * scale <= length
        ? (length - size * scale) / 2
        : clamp(length / 2 - centre * scale, length - size * scale, 0);
    const [x, y] = [start(width, state.x), start(height, state.y)];
    for (const image of views.get(view)) lay(image, [x, y, size * scale, size * scale], [width, height]);
    view.dataset.scale = scale;
    if (view.dataset.view === "compare") frame(x, y, scale, width, height);
  }

  // Where the crop is in the picture, and what of it the comparison shows.
  function frame(x, y, scale, width, height) {
    const {
      size: [h, w],
      place: [top, left, size],
    } = example();
    const overview = find("overview");
    lay(overview.querySelector(".crop"), [left, top, size, size], [w, h]);
    const [x0, y0] = [Math.max(0, -x / scale), Math.max(0, -y / scale)];
    const visible = [Math.min(size, width / scale), Math.min(size, height / scale)];
    lay(overview.querySelector(".window"), [left + x0, top + y0, ...visible], [w, h]);
  }

  function placeAll() {
    for (const view of views.keys()) place(view);
  }

  // The smallest windows decide how far the point in the middle can go.
  function moveTo(x, y) {
    const half = Math.min(
      ...[...views.keys()].map((view) => view.clientWidth / 2 / view.dataset.scale),
      side() / 2,
    );
    state.x = clamp(x, half, side() - half);
    state.y = clamp(y, half, side() - half);
    placeAll();
  }

  function zoomBy(step) {
    const radios = [...document.querySelectorAll("[name=zoom]")];
    const index = clamp(radios.findIndex((radio) => radio.checked) + step, 0, radios.length - 1);
    radios[index].checked = true;
    state.zoom = index ? Number(radios[index].value) : "fit";
    placeAll();
  }

  function interact(view) {
    let start = null;
    view.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      start = { x: event.clientX, y: event.clientY, cx: state.x, cy: state.y, moved: false };
      view.setPointerCapture(event.pointerId);
    });
    view.addEventListener("pointermove", (event) => {
      if (!start) return;
      const [dx, dy] = [event.clientX - start.x, event.clientY - start.y];
      start.moved ||= Math.hypot(dx, dy) > 4;
      const scale = Number(view.dataset.scale);
      if (start.moved) moveTo(start.cx - dx / scale, start.cy - dy / scale);
    });
    view.addEventListener("pointerup", (event) => {
      if (start && !start.moved) {
        const box = view.querySelector("img").getBoundingClientRect();
        const scale = Number(view.dataset.scale);
        moveTo((event.clientX - box.left) / scale, (event.clientY - box.top) / scale);
      }
      start = null;
    });
    view.addEventListener("pointercancel", () => (start = null));
    view.addEventListener("keydown", (event) => {
      const step = 16 / Number(view.dataset.scale);
      const moves = {
        ArrowLeft: [-step, 0],
        ArrowRight: [step, 0],
        ArrowUp: [0, -step],
        ArrowDown: [0, step],
      };
      if (event.key in moves) moveTo(state.x + moves[event.key][0], state.y + moves[event.key][1]);
      else if (event.key === "+" || event.key === "=") zoomBy(1);
      else if (event.key === "-") zoomBy(-1);
      else return;
      event.preventDefault();
    });
  }

  const sizes = new ResizeObserver((entries) => entries.forEach((entry) => place(entry.target)));

  function caption(key) {
    const parts = cropMetrics
      .map((metric) => score(example(), key, `crop ${metric}`))
      .map((value, i) => (value == null ? null : format(value, cropMetrics[i])));
    return parts.filter(Boolean).join(" \u00b7 ");
  }

  function drawTiles() {
    for (const view of views.keys())
      if (view.dataset.view !== "compare") {
        sizes.unobserve(view);
        views.delete(view);
      }
    const shown = content(state.example).versions.filter(
      (version) => version.kind !== "variant" || isShown(version.name),
    );
    tiles.replaceChildren(
      ...shown.map((version) => {
        const key = keyOf(version);
        const image = make("img", {
          src: version.source,
          alt: `${version.name}, ${nameOf(example())}`,
          draggable: "false",
          decoding: "async",
        });
        const view = make(
          "div",
          {
            class: "view",
            tabindex: "0",
            role: "group",
            "aria-label": `Crop of ${version.name}`,
            "aria-describedby": "tiles-help",
          },
          image,
        );
        views.set(view, [image]);
        interact(view);
        sizes.observe(view);
        const tag =
          version.name === data.baseline && version.kind === "variant"
            ? [make("small", { class: "tag" }, "baseline")]
            : [];
        return make(
          "figure",
          { class: "tile", "data-key": key },
          view,
          make("figcaption", {}, make("b", {}, version.name), ...tag, make("span", {}, caption(key))),
        );
      }),
    );
    placeAll();
  }

  function drawComparison() {
    const all = new Map(content(state.example).versions.map((version) => [keyOf(version), version]));
    for (const [select, id] of [
      [left, "left"],
      [right, "right"],
    ]) {
      const version = all.get(select.value);
      const image = find(`${id}-image`);
      if (version) image.src = version.source;
      else image.removeAttribute("src");
      image.alt = version ? `${version.name}, ${nameOf(example())}` : "";
      find(`${id}-caption`).replaceChildren(
        make("b", {}, version?.name ?? "not there"),
        ` ${caption(select.value)}`,
      );
    }
    const {
      place: [top, leftPx, size],
      size: [height, width],
      change,
    } = example();
    const facts = [
      ["Picture", nameOf(example())],
      ["Crop", `${size} px at ${leftPx}, ${top} of ${width} \u00d7 ${height}`],
      ["Change", `${change.toFixed(1)} grey levels between the variants`],
    ];
    const rest = [`picture ${data.metric}`, ...cropMetrics.map((metric) => `crop ${metric}`)];
    for (const choice of rest) {
      const [one, two] = [left.value, right.value].map((key) => score(example(), key, choice));
      const [scope, metric] = choice.split(" ");
      if (one != null && two != null) {
        facts.push([
          `${data.metrics[metric].label} of the ${scope}`,
          `${format(one, metric)} \u2192 ${format(two, metric)} (${format(two - one, metric, { sign: true })})`,
        ]);
      }
    }
    find("about").replaceChildren(
      make(
        "dl",
        {},
        ...facts.map(([term, text]) => make("div", {}, make("dt", {}, term), make("dd", {}, text))),
      ),
    );
  }

  function drawStrip() {
    const keys = data.examples.map((item, index) => {
      if (order.value === "table") return index;
      if (order.value === "changed") return -item.change;
      const value = gain(item);
      return value == null ? Infinity : order.value === "best" ? -value : value;
    });
    const places = data.examples
      .map((_, index) => index)
      .sort((one, two) => keys[one] - keys[two] || one - two);
    const metric = by.value.split(" ")[1];
    strip.replaceChildren(
      ...places.map((index) => {
        const item = data.examples[index];
        const value = gain(item);
        const signed =
          value == null ? "" : format(data.metrics[metric].higher ? value : -value, metric, { sign: true });
        return make(
          "button",
          {
            type: "button",
            "data-example": index,
            "aria-pressed": String(index === state.example),
            title: nameOf(item),
            onclick: () => choose(index),
          },
          make("img", { src: item.overview, alt: "", loading: "lazy", decoding: "async" }),
          make(
            "span",
            {},
            make("b", {}, item.image),
            make("small", {}, order.value === "changed" ? `${item.change.toFixed(1)} levels` : signed),
          ),
        );
      }),
    );
    return places[0];
  }

  function choose(index) {
    state.example = index;
    state.x = state.y = side() / 2;
    for (const button of strip.children)
      button.setAttribute("aria-pressed", String(Number(button.dataset.example) === index));
    const image = find("overview-image");
    image.src = example().overview;
    image.alt = `The whole picture ${nameOf(example())}`;
    drawComparison();
    drawTiles();
  }

  const view = compare.querySelector(".view");
  views.set(view, [find("right-image"), find("left-image")]);
  sizes.observe(view);
  const divide = () => {
    view.style.setProperty("--divider", `${divider.value}%`);
    divider.setAttribute("aria-valuetext", `${divider.value}% left`);
  };
  divider.addEventListener("input", divide);
  find("difference").addEventListener("change", (event) =>
    compare.classList.toggle("difference", event.target.checked),
  );
  find("zoom").addEventListener("change", (event) => {
    state.zoom = event.target.value === "fit" ? "fit" : Number(event.target.value);
    placeAll();
  });
  for (const select of [left, right])
    select.addEventListener("change", () => {
      drawStrip();
      drawComparison();
      placeAll();
    });
  for (const select of [order, by]) select.addEventListener("change", () => choose(drawStrip()));
  onVisibility.push(drawTiles);
  divide();
  choose(drawStrip());
}
