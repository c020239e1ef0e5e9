/* Predictions on a few tiles: a slider moves over the tiles, another wipes from the truth to the prediction. */

const COVERED = 100;

function caption(name, beside) {
  return element("figcaption", {}, element("span", { class: "name" }, name), beside ? ` ${beside}` : null);
}

function picture(name, source, alternative) {
  return element("figure", {}, element("img", { src: source, alt: alternative }), caption(name));
}

/* A prediction over the truth; the wipe says how much of it is covered. */
function caseFigure(tile, name, found, place) {
  const isErrors = place.layer === "errors" && found.errors;
  const above = element("img", {
    src: isErrors ? found.errors : found.prediction,
    class: "above",
    alt: `${isErrors ? "errors" : "prediction"} of ${name}, ${given(place.scenario)}, tile ${tile.id}`,
  });
  above.style.clipPath = `inset(0 0 0 ${COVERED - place.wipe}%)`;
  const below = tile.truth ? element("img", { src: tile.truth, alt: "" }) : null;
  const stack = element("div", { class: below ? "stack" : null }, below, above);
  return element("figure", {}, stack, caption(name, found.right));
}

function legendList(entries, name) {
  const items = entries.map(({ name, colour }) => {
    const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.backgroundColor = colour;
    return element("li", {}, swatch, name);
  });
  return element("ul", { class: "legend", "aria-label": name }, ...items);
}

function fillTiles(shown, place, inputs, cases, errorLegend) {
  const tile = shown.tiles[place.tile];
  const truth = tile.truth ? [picture("truth", tile.truth, `truth of tile ${tile.id}`)] : [];
  errorLegend.hidden = place.layer !== "errors";
  inputs.replaceChildren(
    ...tile.inputs.map(({ name, src }) => picture(name, src, `${name} of tile ${tile.id}`)),
    ...truth,
  );
  cases.replaceChildren(
    ...shown.methods.map((name, number) => caseFigure(tile, name, tile.cases[number][place.scenario], place)),
  );
}

function choiceOf(id, name) {
  return element("fieldset", { class: "choice", id }, element("legend", {}, name));
}

function tileChoices(shown, place, draw) {
  const scenarios = choiceOf("tile-scenario", "What is given");
  const options = shown.scenarios.map((key) => ({ key, words: present(key) }));
  const choose = (what) => (value) => {
    place[what] = value;
    draw();
  };
  fillRadios(scenarios, options, place.scenario, choose("scenario"));
  const parts = [
    slider("tile", "Tile", [0, shown.tiles.length - 1], 0,
      (at) => `${at + 1} of ${shown.tiles.length}: ${shown.tiles[at].id}`, choose("tile")),
    scenarios,
  ];
  if (shown.tiles.every((tile) => tile.truth)) {
    const layers = choiceOf("tile-layer", "Shown");
    const kinds = [{ key: "prediction", words: "prediction" }, { key: "errors", words: "errors" }];
    fillRadios(layers, kinds, place.layer, choose("layer"));
    const say = (at) => `${at} % covered`;
    parts.push(layers, slider("wipe", "Wipe over the truth", [0, COVERED], COVERED, say, choose("wipe")));
  }
  return element("form", { class: "choices", onsubmit: (event) => event.preventDefault() }, ...parts);
}

/* Put the pictures of one study into the page. */
function showTiles(shown, here) {
  if (shown.absent) {
    here.replaceChildren(element("p", {}, shown.absent));
    return;
  }
  const place = { tile: 0, scenario: shown.scenarios[0], layer: "prediction", wipe: COVERED };
  const inputs = element("div", { class: "pictures inputs" });
  const cases = element("div", { class: "pictures cases" });
  const errorLegend = legendList(shown.errorLegend, "Errors");
  const draw = () => fillTiles(shown, place, inputs, cases, errorLegend);
  here.replaceChildren(
    element("p", {}, shown.note),
    tileChoices(shown, place, draw),
    inputs,
    legendList(shown.legend, "Classes"),
    errorLegend,
    cases,
  );
  draw();
}
