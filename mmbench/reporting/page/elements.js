"use strict";

/* Words of records become text nodes, never markup. */
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function groupDigits(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/* What a scenario leaves of the modalities. */
function present(scenario) {
  return scenario === "full" ? "all" : scenario.split("+").join(" + ");
}

function given(scenario) {
  return `given ${present(scenario)}`;
}

let radioGroups = 0;

/* A group of radio buttons after a legend; `choose` gets the key of the chosen one. */
function fillRadios(fieldset, options, chosen, choose) {
  const name = `radio-${(radioGroups += 1)}`;
  const labels = options.map(({ key, words }) =>
    element(
      "label",
      {},
      element("input", {
        type: "radio", name, value: key, checked: key === chosen ? "" : null, onchange: () => choose(key),
      }),
      element("span", {}, words),
    ));
  fieldset.replaceChildren(fieldset.querySelector("legend"), element("div", { class: "radios" }, ...labels));
}

/* A slider with its name before it and what it stands at behind it. */
function slider(id, name, range, start, say, move) {
  const input = element("input", {
    type: "range", id, min: range[0], max: range[1], step: 1, value: start, "aria-valuetext": say(start),
  });
  const output = element("output", { for: id }, say(start));
  input.addEventListener("input", () => {
    const place = Number(input.value);
    output.textContent = say(place);
    input.setAttribute("aria-valuetext", say(place));
    move(place);
  });
  return element("div", { class: "slider" }, element("label", { for: id }, name), input, output);
}
