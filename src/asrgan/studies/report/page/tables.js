// Tables that sort by a click on a heading, and what is shown in them.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  headings.forEach((heading, column) => {
    heading.querySelector("button.sort")?.addEventListener("click", () => {
      const isNumber = heading.classList.contains("number");
      // Numbers show the largest first, words the first.
      const first = isNumber ? "descending" : "ascending";
      const other = isNumber ? "ascending" : "descending";
      const order = heading.getAttribute("aria-sort") === first ? other : first;
      for (const one of headings) one.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const keyed = [...body.rows].map((row) => {
        const cell = row.cells[column];
        const text = cell.dataset.value ?? cell.textContent.trim();
        return [isNumber ? (text === "" ? NaN : Number(text)) : text, row];
      });
      keyed.sort(([one], [two]) => {
        if (!isNumber) return sign * one.localeCompare(two, undefined, { numeric: true });
        // What has no value stands last in both orders.
        return Number.isNaN(one) - Number.isNaN(two) || sign * (one - two) || 0;
      });
      body.append(...keyed.map(([, row]) => row));
    });
  });
}

{
  const show = () => {
    const chosen = document.querySelector("[name=benchmark]:checked")?.value ?? "0";
    for (const panel of document.querySelectorAll("[data-benchmark]")) {
      panel.classList.toggle("off", panel.dataset.benchmark !== chosen);
    }
    const spread = document.querySelector("[name=spread]:checked")?.value;
    find("results")?.setAttribute("data-spread", spread);
  };
  for (const radio of document.querySelectorAll("[name=benchmark], [name=spread]")) {
    radio.addEventListener("change", show);
  }
  show();
}
