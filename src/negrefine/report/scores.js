"use strict";
// Filters and sorts the cards of a page that shows all of them without this.
(() => {
  const controls = document.getElementById("controls");
  const [list, shown, none] = ["cards", "shown", "none"].map((id) => document.getElementById(id));
  const [classes, search, order] = ["class", "search", "order"].map((id) => document.getElementById(id));
  const counts = [...controls.querySelectorAll("small[data-of]")];
  const collator = new Intl.Collator("en", { numeric: true });
  const number = new Intl.NumberFormat("en");

  const cards = [...list.children].map((element) => ({
    element,
    state: element.dataset.state,
    place: Number(element.dataset.place),
    // What could not be read has neither, and is last in every order by them.
    score: "score" in element.dataset ? Number(element.dataset.score) : null,
    class: element.dataset.class ?? "",
    file: element.querySelector(".file").textContent,
  }));
  for (const card of cards) card.lower = card.file.toLowerCase();

  const last = (one, other, compare) =>
    (one === null) - (other === null) || (one === null ? 0 : compare(one, other));
  const orders = {
    place: () => 0,
    lowest: (a, b) => last(a.score, b.score, (x, y) => x - y),
    highest: (a, b) => last(a.score, b.score, (x, y) => y - x),
    class: (a, b) => last(a.class || null, b.class || null, (x, y) => x - y),
    file: (a, b) => collator.compare(a.file, b.file),
  };

  function sort() {
    const compare = orders[order.value];
    list.append(...[...cards].sort((a, b) => compare(a, b) || a.place - b.place).map((card) => card.element));
  }

  function filter() {
    const state = controls.elements.verdict.value;
    const words = search.value.toLowerCase();
    const byState = new Map();
    const byClass = new Map();
    const add = (map, key) => map.set(key, (map.get(key) ?? 0) + 1);
    let visible = 0;
    for (const card of cards) {
      const isState = state === "" || card.state === state;
      const isClass = classes.value === "" || card.class === classes.value;
      const isNamed = card.lower.includes(words);
      const matches = isState && isClass && isNamed;
      card.element.hidden = !matches;
      visible += matches;
      // Each filter counts what it would show beside the others.
      if (isClass && isNamed) {
        add(byState, card.state);
        add(byState, "");
      }
      if (isState && isNamed) add(byClass, card.class);
    }
    for (const each of counts) each.textContent = number.format(byState.get(each.dataset.of) ?? 0);
    for (const option of classes.options) {
      if (option.value === "") continue;
      option.textContent = `${option.dataset.name} (${number.format(byClass.get(option.value) ?? 0)})`;
    }
    const all = `${number.format(cards.length)} image${cards.length === 1 ? "" : "s"}`;
    shown.textContent = visible === cards.length ? all : `${number.format(visible)} of ${all}`;
    none.hidden = visible > 0;
  }

  controls.addEventListener("input", (event) => (event.target === order ? sort() : filter()));
  document.getElementById("clear").addEventListener("click", () => (controls.reset(), sort(), filter()));
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.hidden = false;
  // A browser may have kept what was chosen before the page was loaded again.
  addEventListener("pageshow", () => (sort(), filter()));
})();
