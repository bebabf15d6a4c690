// Where each attention layer of each recipe looks, from a point of a picture.
if (find("attention")) {
  const picker = find("picker");
  const cross = picker.querySelector(".cross");
  const image = find("picker-image");
  const looks = find("looks");
  const state = { example: data.examples.findIndex((example) => example.attends), row: 0, column: 0 };
  // The finest grid of points among the layers; others take the nearest of theirs.
  let grid = [1, 1];
  let layers = [];

  // From transparent over violet and orange to white, with even steps of lightness.
  const stops = [
    [20, 11, 52],
    [87, 16, 110],
    [163, 44, 96],
    [229, 92, 48],
    [251, 165, 10],
    [252, 255, 220],
  ];
  const ramp = Array.from({ length: 256 }, (_, value) => {
    const place = (value / 255) * (stops.length - 1);
    const [one, two] = [stops[Math.floor(place)], stops[Math.ceil(place)]];
    return one.map((channel, i) => channel + (two[i] - channel) * (place % 1));
  });

  async function levels(source) {
    const picture = new Image();
    picture.src = source;
    await picture.decode();
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    return context;
  }

  function paint() {
    const [down, across] = grid;
    const [y, x] = [(state.row + 0.5) / down, (state.column + 0.5) / across];
    Object.assign(cross.style, { left: `${100 * x}%`, top: `${100 * y}%` });
    const told = [];
    for (const { layer, context, canvas, note } of layers) {
      const [rows, columns] = layer.grid;
      const [row, column] = [
        Math.min(rows - 1, Math.floor(y * rows)),
        Math.min(columns - 1, Math.floor(x * columns)),
      ];
      const [height, width] = layer.keys;
      const grey = context.getImageData(column * width, row * height, width, height).data;
      const colours = new ImageData(width, height);
      for (let i = 0; i < width * height; i++) {
        const value = grey[4 * i];
        colours.data.set([...ramp[value], 60 + 0.7 * value], 4 * i);
      }
      canvas.getContext("2d").putImageData(colours, 0, 0);
      const breadth = layer.breadth[row * columns + column];
      note.textContent = `spread over ${(100 * breadth).toPrecision(2)}% of the picture`;
      told.push(100 * breadth);
    }
    const [least, most] = [Math.min(...told), Math.max(...told)].map((percent) => percent.toFixed(0));
    find("picker-status").textContent =
      `Point ${state.column + 1} of ${across} across, ${state.row + 1} of ${down} down; its attention is spread over ${least === most ? most : `${least} to ${most}`}% of the picture.`;
  }

  async function choose(index) {
    state.example = index;
    for (const button of find("attention-strip").children) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.example) === index));
    }
    const {
      overview,
      image: name,
      benchmark,
      size: [height, width],
    } = data.examples[index];
    image.src = overview;
    image.alt = `The picture ${name} (${benchmark})`;
    const found = JSON.parse(find(`example-${index}`).textContent).attention;
    const contexts = await Promise.all(found.map((layer) => levels(layer.maps)));
    if (state.example !== index) return; // another one was chosen meanwhile
    layers = found.map((layer, i) => {
      const [rows, columns] = layer.keys;
      return {
        layer,
        context: contexts[i],
        canvas: make("canvas", { width: columns, height: rows, "aria-hidden": "true" }),
        note: make("small"),
      };
    });
    grid = layers
      .map(({ layer }) => layer.grid)
      .reduce((one, two) => (one[0] * one[1] >= two[0] * two[1] ? one : two));
    looks.replaceChildren(
      ...layers.map(({ layer, canvas, note }) =>
        make(
          "figure",
          { class: "look", "data-model": layer.model, "data-place": layer.place },
          make(
            "div",
            { class: "over", style: `aspect-ratio: ${width} / ${height}` },
            make("img", { src: overview, alt: "" }),
            canvas,
          ),
          make(
            "figcaption",
            {},
            make("b", {}, layer.model),
            ` after ${layer.place}`,
            make(
              "span",
              {},
              `\u03b3 ${minus(layer.gamma.toPrecision(2))}, adds ${(100 * layer.share).toPrecision(2)}% to the features`,
            ),
            note,
          ),
        ),
      ),
    );
    state.row = Math.floor(grid[0] / 2);
    state.column = Math.floor(grid[1] / 2);
    show();
    paint();
  }

  function show() {
    for (const look of looks.children) look.classList.toggle("off", !isShown(look.dataset.model));
  }
  onVisibility.push(show);

  function moveTo(row, column) {
    state.row = clamp(row, 0, grid[0] - 1);
    state.column = clamp(column, 0, grid[1] - 1);
    paint();
  }
  const point = (event) => {
    const box = image.getBoundingClientRect();
    moveTo(
      Math.floor(((event.clientY - box.top) / box.height) * grid[0]),
      Math.floor(((event.clientX - box.left) / box.width) * grid[1]),
    );
  };
  picker.addEventListener("pointerdown", (event) => {
    point(event);
    picker.setPointerCapture(event.pointerId);
  });
  picker.addEventListener("pointermove", (event) => event.buttons && point(event));
  picker.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (!(event.key in moves)) return;
    moveTo(state.row + moves[event.key][0], state.column + moves[event.key][1]);
    event.preventDefault();
  });

  data.examples.forEach((example, index) => {
    if (!example.attends) return;
    find("attention-strip").append(
      make(
        "button",
        { type: "button", "data-example": index, "aria-pressed": "false", onclick: () => choose(index) },
        make("img", { src: example.overview, alt: "", loading: "lazy", decoding: "async" }),
        make("span", {}, make("b", {}, example.image)),
      ),
    );
  });
  choose(state.example);
}
