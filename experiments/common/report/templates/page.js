"use strict";
const all = (query, root = document) => [...root.querySelectorAll(query)];

/* Light or dark: as the system has it, until the reader chooses. */
const theme = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.style.colorScheme || (system.matches ? "dark" : "light")) === "dark";
const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
theme.addEventListener("click", () => {
  document.documentElement.style.colorScheme = isDark() ? "light" : "dark";
  nameTheme();
});
system.addEventListener("change", nameTheme);
nameTheme();
theme.hidden = false;

/* The section in view is the current one of the navigation. */
const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    const link = links.get(target.getAttribute("aria-labelledby"));
    link.setAttribute("aria-current", "true");
    link.parentElement.parentElement.parentElement.scrollTo({ left: link.offsetLeft - 60 });
  }
}, { rootMargin: "-20% 0px -70% 0px" });
all("main > section").forEach((section) => seen.observe(section));

/* The legend shows and hides the marks of a series everywhere. */
for (const button of all(".legend button")) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    for (const twin of all(".legend button")) {
      if (twin.dataset.key === button.dataset.key) twin.setAttribute("aria-pressed", String(on));
    }
    for (const mark of all("svg [data-series]")) {
      if (mark.dataset.series === button.dataset.key) mark.style.display = on ? "" : "none";
    }
  });
}

/* A group of choices shows one of several panels. */
for (const group of all(".choices")) {
  const buttons = all("button", group);
  const choose = (chosen) => {
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button === chosen));
      document.getElementById(button.dataset.panel).hidden = button !== chosen;
    }
  };
  for (const button of buttons) button.addEventListener("click", () => choose(button));
  choose(buttons.find((button) => button.getAttribute("aria-pressed") === "true") ?? buttons[0]);
}

/* A pointer on a line chart reads off what all lines are there. */
const readout = document.getElementById("readout");
const numbers = (text) => text.split(" ").map(Number);
const pathPoints = (path) => path.getAttribute("d").slice(1).split("L").map(numbers);
for (const chart of all("svg[data-x]")) {
  const [x0, x1, left, right] = numbers(chart.dataset.x);
  const [y0, y1, bottom, top] = numbers(chart.dataset.y);
  const rule = document.createElementNS("http://www.w3.org/2000/svg", "path");
  rule.setAttribute("class", "rule");
  const toX = (x) => x0 + (x - left) / (right - left) * (x1 - x0);
  const toY = (y) => y0 + (bottom - y) / (bottom - top) * (y1 - y0);
  let lines = null;
  chart.addEventListener("pointermove", (event) => {
    lines ??= all("g[data-label]", chart).map((mark) => ({ mark, points: pathPoints(mark.querySelector(".line.main")) }));
    const box = chart.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
    const rows = [];
    let place = at;
    for (const { mark, points } of lines) {
      if (mark.style.display === "none") continue;
      const nearest = points.reduce((best, point) => Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best);
      if (Math.abs(nearest[0] - at) > 12) continue;
      place = nearest[0];
      const row = document.createElement("div");
      row.className = mark.getAttribute("class");
      row.append(document.createElement("span"), document.createElement("b"));
      row.firstChild.textContent = mark.dataset.label;
      row.lastChild.textContent = String(Number(toY(nearest[1]).toPrecision(3)));
      rows.push(row);
    }
    readout.hidden = rows.length === 0;
    if (!rows.length) return rule.remove();
    const head = document.createElement("div");
    head.textContent = `${chart.dataset.xLabel} ${Number(toX(place).toPrecision(4))}`;
    readout.replaceChildren(head, ...rows);
    rule.setAttribute("d", `M${place} ${top}V${bottom}`);
    chart.append(rule);
    const size = readout.getBoundingClientRect();
    readout.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - size.width - 8))}px`;
    readout.style.top = `${Math.max(8, event.clientY - size.height - 12)}px`;
  });
  chart.addEventListener("pointerleave", () => { readout.hidden = true; rule.remove(); });
}

/* A browser shows one item at a time, taken out of its template when it is asked for. */
for (const browser of all(".browser")) {
  const [choice, before, after, told, view] =
    ["select", ".before", ".after", ".told", ".view"].map((part) => browser.querySelector(part));
  const templates = new Map(all("template[data-item]", browser).map((one) => [one.dataset.item, one]));

  const select = (tab, focus) => {
    for (const other of all("[role=tab]", view)) {
      const chosen = other === tab;
      other.setAttribute("aria-selected", String(chosen));
      other.tabIndex = chosen ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
    }
    if (focus) tab.focus();
  };
  const show = () => {
    const held = view.contains(document.activeElement) && document.activeElement.role === "tab";
    view.replaceChildren(templates.get(choice.value).content.cloneNode(true));
    const tab = view.querySelector("[role=tab]");
    if (tab) select(tab, held);
    // Not disabled outright: a button that is would lose the focus it holds.
    before.setAttribute("aria-disabled", String(choice.selectedIndex === 0));
    after.setAttribute("aria-disabled", String(choice.selectedIndex === choice.length - 1));
    told.textContent = choice.selectedOptions[0].textContent;
  };
  const move = (by) => {
    const wanted = Math.max(0, Math.min(choice.length - 1, choice.selectedIndex + by));
    if (wanted === choice.selectedIndex) return;
    choice.selectedIndex = wanted;
    show();
  };
  choice.addEventListener("change", show);
  before.addEventListener("click", () => move(-1));
  after.addEventListener("click", () => move(1));
  view.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) select(tab, true);
  });
  browser.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target === choice) return;
    const scrolls = event.target.classList.contains("scroll") && event.target.scrollWidth > event.target.clientWidth;
    const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (across && !scrolls) {
      event.preventDefault();
      return move(across);
    }
    const tab = event.target.closest("[role=tab]");
    if (!tab) return;
    const tabs = all("[role=tab]", view);
    const place = tabs.indexOf(tab);
    const wanted = { ArrowUp: place - 1, ArrowDown: place + 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (wanted === undefined) return;
    event.preventDefault();
    select(tabs[(wanted + tabs.length) % tabs.length], true);
  });
  show();
}
