// What the other scripts share: the data, a few helpers, the theme, which variants are shown.
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const minus = (text) => text.replace("-", "\u2212");
const isVariant = (model) => data.styles[model]?.kind === "variant";

function format(value, metric, { sign = false } = {}) {
  if (value == null) return "\u2013";
  const { digits, unit } = data.metrics[metric];
  return `${sign && value > 0 ? "+" : ""}${minus(value.toFixed(digits))}${unit ? ` ${unit}` : ""}`;
}

function fill(select, options, chosen) {
  select.replaceChildren(
    ...options.map(([value, text]) => make("option", { value, selected: value === chosen }, text)),
  );
}

// Light, dark, or as the system: light-dark() in the styles follows color-scheme.
{
  const button = find("theme");
  const schemes = {
    "light dark": ["\u25d0", "as the system"],
    light: ["\u2600", "light"],
    dark: ["\u263e", "dark"],
  };
  const names = Object.keys(schemes);
  const root = document.documentElement;
  const apply = (scheme) => {
    root.style.colorScheme = scheme;
    button.textContent = schemes[scheme][0];
    button.setAttribute("aria-label", `Colours: ${schemes[scheme][1]}`);
  };
  let current = names[0];
  button.addEventListener("click", () => {
    current = names[(names.indexOf(current) + 1) % names.length];
    apply(current);
  });
  // Paper is white.
  addEventListener("beforeprint", () => apply("light"));
  addEventListener("afterprint", () => apply(current));
}

// Variants that a reader has switched off, in all charts and in the gallery.
const hidden = new Set();
const onVisibility = [];
const isShown = (model) => !hidden.has(model);

{
  const draw = () => {
    for (const legend of document.querySelectorAll("[data-legend]")) {
      for (const button of legend.children) {
        button.setAttribute("aria-pressed", String(isShown(button.dataset.model)));
      }
    }
    for (const listener of onVisibility) listener();
  };
  const models = Object.keys(data.styles).filter(isVariant);
  for (const legend of document.querySelectorAll("[data-legend]")) {
    legend.setAttribute("role", "group");
    legend.setAttribute("aria-label", "Variants shown");
    for (const model of models) {
      const { color, dash } = data.styles[model];
      const line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      line.setAttribute("viewBox", "0 0 22 10");
      line.setAttribute("class", "swatch");
      line.setAttribute("aria-hidden", "true");
      line.innerHTML = `<line x1="1" y1="5" x2="21" y2="5" stroke="${color}" stroke-dasharray="${dash}"/>`;
      const toggle = () => {
        if (!hidden.delete(model)) hidden.add(model);
        draw();
      };
      const only = () => {
        const others = models.filter((other) => other !== model && other !== data.baseline);
        hidden.clear();
        others.forEach((other) => hidden.add(other));
        draw();
      };
      legend.append(
        make(
          "button",
          {
            type: "button",
            "data-model": model,
            "aria-pressed": "true",
            title: "Click: on or off. Double click: only this and the baseline.",
            onclick: toggle,
            ondblclick: only,
          },
          line,
          model,
        ),
      );
    }
  }
}
