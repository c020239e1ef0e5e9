/* Tables as Python made them: this sorts rows and makes each number a button. */

function compareCells(first, second, direction) {
  if (first === null || second === null) return (first === null) - (second === null);
  const isNumber = typeof first === "number" && typeof second === "number";
  const order = isNumber ? first - second : String(first).localeCompare(String(second), "en");
  return direction === "ascending" ? order : -order;
}

function sortedRows(rows, column, direction) {
  if (column < 0) return rows;
  return [...rows].sort((a, b) => compareCells(a.cells[column].sort, b.cells[column].sort, direction));
}

/* The next direction of a column: best first for numbers, a to z for words, then the other way round. */
function nextDirection(view, sorting, column) {
  if (sorting.header === view.headers[column]) {
    return sorting.direction === "descending" ? "ascending" : "descending";
  }
  const isNumber = view.rows.some((row) => typeof row.cells[column].sort === "number");
  return isNumber ? "descending" : "ascending";
}

function headCell(view, sorting, column, sort) {
  const isSorted = sorting.header === view.headers[column];
  const sign = { ascending: "▴", descending: "▾" }[isSorted ? sorting.direction : ""] || "";
  const button = element(
    "button",
    { type: "button", class: "sort", "data-column": column, onclick: () => sort(column) },
    view.headers[column],
    element("span", { class: "sign", "aria-hidden": "true" }, sign),
  );
  return element("th", { scope: "col", "aria-sort": isSorted ? sorting.direction : "none" }, button);
}

/* A name that may be broken after an underscore. */
function breakable(name) {
  return name.split(/(?<=_)/).flatMap((part, number) => (number ? [element("wbr"), part] : [part]));
}

function nameCell(cell) {
  return element(
    "th",
    { scope: "row" },
    element("span", { class: "name" }, ...breakable(cell.text)),
    cell.marks ? element("span", { class: "marks" }, ` ${cell.marks}`) : null,
    cell.options ? element("span", { class: "options" }, cell.options) : null,
  );
}

function numberCell(view, row, column, explain) {
  const cell = row.cells[column];
  if (!cell.figure) return element("td", {}, cell.text);
  const [value, spread] = cell.text.split(" ± ");
  const button = element(
    "button",
    {
      type: "button", class: "score", "aria-haspopup": "dialog",
      onclick: () => explain(row, column),
    },
    value,
    spread ? element("span", { class: "spread" }, ` ± ${spread}`) : null,
  );
  return element("td", { class: cell.standing || null }, button);
}

function bodyOf(view, rows, attributes, explain) {
  const lines = rows.map((row) =>
    element(
      "tr",
      {},
      ...row.cells.map((cell, column) => (column === 0 ? nameCell(cell) : numberCell(view, row, column, explain))),
    ));
  return element("tbody", attributes, ...lines);
}

/* A view as a figure; `sort` gets a column, `explain` a row and a column. */
function scoreTable(view, sorting, sort, explain) {
  const column = view.headers.indexOf(sorting.header);
  const bodies = [bodyOf(view, sortedRows(view.rows, column, sorting.direction), {}, explain)];
  if (view.below.length) {
    bodies.push(bodyOf(view, sortedRows(view.below, column, sorting.direction), { class: "below" }, explain));
  }
  const heads = view.headers.map((_, number) => headCell(view, sorting, number, sort));
  return element(
    "figure",
    { class: "table" },
    element(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": view.words },
      element(
        "table",
        {},
        element("caption", {}, element("span", {}, view.title)),
        element("thead", {}, element("tr", {}, ...heads)),
        ...bodies,
      ),
    ),
    element("figcaption", {}, ...view.notes.map((note) => element("p", {}, note))),
  );
}
