/* The dialog behind a number: its records, what each scored, how it was made, and its confusion matrices. */

/* Per cent of colour behind a cell that holds a whole row: more would make its number hard to read. */
const HIT_SHADE = 55;

function plainTable(caption, heads, lines, kind) {
  return element(
    "div",
    { class: "scroll" },
    element(
      "table",
      { class: kind },
      element("caption", {}, element("span", {}, caption)),
      element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, ...lines),
    ),
  );
}

function line(head, cells) {
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, head),
    ...cells.map((cell) => (cell instanceof Node ? cell : element("td", {}, cell))),
  );
}

function seedTable(study, metric, outcomes, records) {
  const columns = [...study.scenarios, "mean", "worst"];
  const lines = records.map(([id, record]) => {
    const scores = outcomes[id].scores[metric.key];
    const values = columns.map((name) => scores[name] ?? "–");
    return line(String(record.seed), [...values, element("td", {}, element("code", {}, id))]);
  });
  return plainTable(`${metric.words} (%) of each seed`, ["seed", ...columns, "record"], lines, "seeds");
}

function matrixTable(study, outcome, scenario) {
  const counts = outcome.matrices[scenario];
  const scores = outcome.classes[scenario];
  const names = study.classes.map((name, number) => (study.scored.includes(number) ? name : `(${name})`));
  const lines = names.map((name, truth) => {
    const total = Math.max(1, counts[truth].reduce((sum, count) => sum + count, 0));
    const cells = counts[truth].map((count, guess) => {
      const cell = element("td", { class: truth === guess ? "count hit" : "count" }, groupDigits(count));
      cell.style.setProperty("--share", `${Math.round((HIT_SHADE * count) / total)}%`);
      return cell;
    });
    return line(name, [...cells, scores.iou[truth] ?? "–", scores.f1[truth] ?? "–"]);
  });
  return plainTable(
    `Pixels ${given(scenario)}: truth in rows, prediction in columns; IoU and F1 in %`,
    ["", ...names, "IoU", "F1"],
    lines,
    "matrix",
  );
}

function recordPart(study, outcome, scenarios, id, record, isFirst) {
  const tables = outcome.lacking
    ? [element("p", { class: "caution" }, `No confusion matrices: ${outcome.lacking}`)]
    : scenarios.filter((name) => name in outcome.matrices).map((name) => matrixTable(study, outcome, name));
  return element(
    "details",
    { class: "record", open: isFirst ? "" : null },
    element("summary", {}, element("h3", {}, `Seed ${record.seed}`), " ", element("code", {}, id)),
    element(
      "dl",
      {},
      ...record.facts.flatMap(([word, text]) => [element("dt", {}, word), element("dd", {}, text)]),
    ),
    ...tables,
  );
}

/* Open the dialog on one number of a view. */
function explainNumber(data, study, state, view, row, column) {
  const header = view.headers[column];
  const isScenario = study.scenarios.includes(header);
  const only = isScenario ? header : view.scenario;
  const { label, records: ids } = study.rows[row.place];
  const records = ids.map((id) => [id, data.records[id]]);
  const outcomes = study.outcomes[state.policy];
  const metric = study.metrics.find(({ key }) => key === state.metric);
  const what = isScenario ? given(header) : header;
  document.getElementById("behind-title").textContent = `${label}, ${what}: ${row.cells[column].text}`;
  document.getElementById("behind-here").replaceChildren(
    element("p", {}, view.title),
    seedTable(study, metric, outcomes, records),
    ...records.map(([id, record], number) =>
      recordPart(study, outcomes[id], only ? [only] : study.scenarios, id, record, number === 0)),
  );
  const dialog = document.getElementById("behind");
  dialog.showModal();
  dialog.scrollTop = 0;
}

function prepareDialog() {
  const dialog = document.getElementById("behind");
  document.getElementById("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}
