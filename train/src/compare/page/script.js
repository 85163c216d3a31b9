"use strict";
// Tables sort by a click on a column's title; the first click puts the better ones first.
for (const table of document.querySelectorAll("table.numbers")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    head.classList.add("sortable");
    head.tabIndex = 0;
    const sort = () => {
      const text = head.dataset.sort === "text";
      const first = head.dataset.sort === "down" ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const key = (row) => {
        const cell = row.cells[column];
        if (text) return cell.lastElementChild.textContent;
        return cell.dataset.value === "" ? NaN : Number(cell.dataset.value);
      };
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (text) return sign * x.localeCompare(y);
        // What is undefined comes last, whatever the order.
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return sign * (x - y);
      };
      body.append(...[...body.rows].sort(compare));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        sort();
      }
    });
  });
}
// One plot of quality against cost at a time, or all.
const quality = document.getElementById("quality");
const figures = quality ? [...quality.querySelectorAll("figure")] : [];
if (figures.length > 2) {
  const select = document.createElement("select");
  select.append(new Option("all", ""));
  for (const figure of figures) select.append(new Option(figure.dataset.metric, figure.dataset.metric));
  select.value = figures[0].dataset.metric;
  const show = () => {
    for (const figure of figures) figure.hidden = select.value !== "" && figure.dataset.metric !== select.value;
  };
  select.addEventListener("change", show);
  const label = document.createElement("label");
  label.append("Metric", select);
  quality.querySelector(".plots").before(label);
  show();
}
