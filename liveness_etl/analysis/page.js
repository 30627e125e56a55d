"use strict";
// Draws the report that stands in this page as JSON. Text from outside goes through textContent alone.
const report = JSON.parse(document.getElementById("report").textContent);
const colours = [1, 2, 3, 4, 5, 6, 7, 8].map((n) => `var(--c${n})`);
// Colours are the page's own variables, so charts follow light, dark and print without being drawn again.
const config = {
  background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
  axis: {
    labelColor: "var(--quiet)", titleColor: "var(--quiet)", gridColor: "var(--line)", gridOpacity: 0.6,
    domainColor: "var(--quiet)", tickColor: "var(--quiet)", titleFontWeight: 500, labelFontSize: 11, titleFontSize: 12,
  },
  axisX: { grid: false, labelOverlap: true },
  legend: { labelColor: "var(--ink)", titleColor: "var(--quiet)", orient: "bottom", labelLimit: 300, titleFontWeight: 500 },
  range: {
    category: colours, ordinal: colours,
    symbol: ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-left", "triangle-right"],
  },
  mark: { color: "var(--c1)" }, bar: { color: "var(--c1)" }, line: { color: "var(--c1)" }, area: { color: "var(--c1)" },
  rect: { color: "var(--c1)" }, point: { color: "var(--c1)" }, rule: { color: "var(--c2)" },
};
const dashes = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [10, 4], [4, 1], [3, 3, 1, 3]];
const views = {};

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 3 });
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 2, maximumFractionDigits: 2 });
function shown(value, kind) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  return kind === "share" ? percent.format(value) : number.format(value);
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function drawTable(box, figure) {
  const table = element("table");
  const row = table.createTHead().insertRow();
  for (const column of figure.table.columns) {
    const cell = element("th", column.title, column.kind === "text" ? "" : "figure");
    cell.scope = "col";
    row.append(cell);
  }
  const body = table.createTBody();
  for (const values of figure.table.rows) {
    const line = body.insertRow();
    values.forEach((value, place) => {
      const { kind } = figure.table.columns[place];
      const cell = line.insertCell();
      cell.textContent = shown(value, kind);
      cell.className = kind === "text" ? (String(value).length > 40 ? "text long" : "text") : typeof value === "number" ? "figure" : "figure withheld";
      if (value === "drift" || (typeof value === "string" && value.startsWith("killed"))) cell.classList.add("flag");
    });
  }
  table.setAttribute("aria-label", figure.title);
  box.append(table);
}

function objects(table) {
  const withheld = (value, kind) => (kind !== "text" && typeof value !== "number" ? null : value);
  return table.rows.filter((row) => row[0] !== "all" || table.columns[0].field !== "period").map((row) =>
    Object.fromEntries(table.columns.map((column, place) => [column.field, withheld(row[place], column.kind)])));
}

function withDashes(spec) {
  const text = JSON.stringify(spec, (key, value) =>
    key === "strokeDash" && value && value.field ? { ...value, scale: { ...value.scale, range: dashes } } : value);
  return JSON.parse(text);
}

async function drawChart(box, figure) {
  const columns = Math.max(1, Math.floor(box.clientWidth / 290));
  const spec = { ...withDashes(figure.chart), data: { name: "table", values: objects(figure.table) } };
  const result = await window.vegaEmbed(box.querySelector(".drawing"), spec, {
    actions: false, renderer: "svg", ast: true, defaultStyle: false, mode: "vega-lite",
    config: { ...config, legend: { ...config.legend, columns } },
    tooltip: { disableDefaultStyle: true },
  });
  views[figure.id] = result.view;
}

function wilson(passed, of) {
  const z = 1.959963984540054, rate = passed / of, scale = 1 + z * z / of;
  const centre = rate + z * z / (2 * of), spread = z * Math.sqrt(rate * (1 - rate) / of + z * z / (4 * of * of));
  return [passed === 0 ? 0 : (centre - spread) / scale, passed === of ? 1 : (centre + spread) / scale];
}

function startExplorer(explorer) {
  const box = document.getElementById("explorer");
  if (!box || !explorer) return;
  const [slider, field] = [document.getElementById("threshold-slider"), document.getElementById("threshold-number")];
  const { thresholds, passed } = explorer;
  slider.max = thresholds.length - 1;
  const nearest = (score) => thresholds.reduce((best, value, place) =>
    Math.abs(value - score) < Math.abs(thresholds[best] - score) ? place : best, 0);
  const say = (id, count, of) => {
    const box = document.getElementById(id);
    if (of === null || of === 0) { box.firstChild.data = "withheld"; box.lastChild.textContent = ""; return; }
    const [low, high] = wilson(count, of);
    box.firstChild.data = percent.format(count / of);
    box.lastChild.textContent =
      `${number.format(count)} of ${number.format(of)}; 95 %: ${percent.format(low)} to ${percent.format(high)}`;
  };
  function show(place, asked) {
    const at = thresholds[place], count = passed[place];
    slider.value = place;
    slider.setAttribute("aria-valuetext", `threshold ${at}`);
    const note = document.getElementById("threshold-note");
    note.textContent = asked !== undefined && Math.abs(asked - at) > 1e-9
      ? `Figures for ${at}, the nearest threshold that may be told.` : `Figures for the threshold ${at}.`;
    say("of-scored", count, explorer.scored);
    say("of-requested", count, explorer.requested);
    const cases = document.getElementById("cases");
    if (explorer.requested && explorer.unscored !== null) {
      const worst = count / explorer.requested, best = (count + explorer.unscored) / explorer.requested;
      cases.firstChild.data = `${percent.format(worst)} to ${percent.format(best)}`;
      cases.lastChild.textContent = `${number.format(explorer.unscored)} requested sessions have no score`;
    } else { cases.firstChild.data = "withheld"; }
    const people = document.getElementById("people-rates");
    if (people) showPeople(people, at);
    const view = views["pass-rates"];
    if (view) view.signal("at", at).runAsync();
  }
  slider.addEventListener("input", () => { show(Number(slider.value)); field.value = thresholds[slider.value]; });
  field.addEventListener("input", () => {
    const score = Number(field.value);
    if (field.value !== "" && score >= 0 && score <= 100) show(nearest(score), score);
  });
  field.value = explorer.default;
  show(nearest(explorer.default), explorer.default);
}

function showPeople(box, at) {
  const figure = report.sections.flatMap((section) => section.figures).find((one) => one.id === "people");
  const rows = figure ? objects(figure.table) : [];
  if (!rows.length) { box.firstChild.data = "withheld"; return; }
  const row = rows.reduce((best, one) => Math.abs(one.threshold - at) < Math.abs(best.threshold - at) ? one : best);
  box.firstChild.data = `${percent.format(row.first)} / ${percent.format(row.ever)}`;
  box.lastChild.textContent = `first / any attempt of each person, at ${row.threshold}; among scored, people drawn ` +
    `again, 95 %: ${percent.format(row.scored_low)} to ${percent.format(row.scored_high)}`;
}

async function draw() {
  for (const figure of report.sections.flatMap((section) => section.figures)) {
    drawTable(document.querySelector(`[data-table="${figure.id}"]`), figure);
  }
  startExplorer(report.explorer);
  for (const figure of report.sections.flatMap((section) => section.figures)) {
    const box = document.querySelector(`[data-chart="${figure.id}"]`);
    if (box) await drawChart(box, figure);
  }
  document.body.dataset.drawn = "true";
}
draw();
