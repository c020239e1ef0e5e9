/* What is chosen, and putting it into the page. */

function startPage() {
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!data.studies.length) return;
  const state = { study: 0, policy: "", metric: "", view: "", sorting: { header: "", direction: "" } };

  const study = () => data.studies[state.study];
  const views = () => study().tables[state.policy][state.metric];
  const view = () => views().find(({ key }) => key === state.view) || views()[0];

  function draw() {
    const shown = view();
    const table = scoreTable(shown, state.sorting, sortBy, (row, column) =>
      explainNumber(data, study(), state, shown, row, column));
    document.getElementById("table").replaceChildren(table);
  }

  function say(words) {
    document.getElementById("said").textContent = words;
  }

  function sortBy(column) {
    const direction = nextDirection(view(), state.sorting, column);
    state.sorting = { header: view().headers[column], direction };
    draw();
    document.querySelector(`#table button[data-column="${column}"]`).focus();
    say(`Sorted by ${state.sorting.header}, ${direction}.`);
  }

  function fillViews() {
    const options = views().map(({ key, words }) => element("option", { value: key }, words));
    const select = document.getElementById("view");
    select.replaceChildren(...options);
    select.value = view().key;
    state.view = select.value;
  }

  function choose(what) {
    return (value) => {
      state[what] = value;
      fillViews();
      draw();
      say(view().title);
    };
  }

  function openStudy(number) {
    state.study = number;
    state.policy = study().policy;
    state.metric = study().metric;
    for (const part of document.querySelectorAll("[data-study]")) {
      part.hidden = Number(part.dataset.study) !== number;
    }
    fillRadios(document.getElementById("metric"), study().metrics, state.metric, choose("metric"));
    fillRadios(document.getElementById("labels"), study().policies, state.policy, choose("policy"));
    fillViews();
    draw();
    showTiles(study().tiles, document.getElementById("tiles-here"));
  }

  for (const part of document.querySelectorAll(".script-only")) part.hidden = false;
  const studies = document.getElementById("study");
  document.getElementById("study-choice").hidden = data.studies.length < 2;
  studies.addEventListener("change", () => openStudy(Number(studies.value)));
  document.getElementById("view").addEventListener("change", (event) => choose("view")(event.target.value));
  document.getElementById("choices").addEventListener("submit", (event) => event.preventDefault());
  prepareDialog();
  openStudy(0);
}

startPage();
