"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  const body = table.tBodies[0];
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return "order" in cell.dataset ? Number(cell.dataset.order) : cell.textContent;
  };
  const isMissing = (row, column, text) => !text && !("order" in row.cells[column].dataset);
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const text = head.classList.contains("text");
      const falling = head.getAttribute("aria-sort") === "ascending";
      const rows = Array.from(body.rows);
      const missing = rows.filter((row) => isMissing(row, column, text));
      const known = rows.filter((row) => !isMissing(row, column, text));
      known.sort((a, b) => (falling ? -1 : 1) * compare(valueOf(a, column), valueOf(b, column)));
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      body.append(...known, ...missing);
    });
  });
}
