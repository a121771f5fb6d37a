"use strict";
// The page's data, its tables' order and filters, and the records given back as they were.

const data = JSON.parse(document.getElementById("data").textContent);
document.documentElement.classList.add("scripted");

const byId = (id) => document.getElementById(id);

/** An element with attributes and children; text is only ever put in as text. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A record's layers, put together from its set and times. */
function layersOf(index) {
  if (!data.times[index]) return [];
  const [which, seconds] = data.times[index];
  const set = data.sets[which];
  return set.names.map((name, i) => {
    const kind = set.kinds[i];
    return {
      name, kernel: set.kernels[kind], seconds: seconds[kind],
      operations: set.operations[kind], bytes: set.bytes[kind],
    };
  });
}

/** The records as `compare --json` writes them, one a line. */
function jsonLines() {
  const line = (record, index) => {
    const layers = layersOf(index);
    return JSON.stringify(layers.length ? { ...record, layers } : record) + "\n";
  };
  return data.records.map(line).join("");
}

byId("download").addEventListener("click", () => {
  const url = URL.createObjectURL(new Blob([jsonLines()], { type: "application/x-ndjson" }));
  const name = String(data.records[0].model).replace(/[^\w.-]+/g, "-");
  element("a", { href: url, download: `anychip-${name}.jsonl` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
});

/** What a cell sorts by: its exact number, else its text; `null` where it is blank. */
function sortKey(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
  const text = cell.textContent.trim();
  if (text === "") return null;
  return Number.isNaN(Number(text)) ? text : Number(text);
}

function sortTable(table, column, descending) {
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [sortKey(row, column), row]);
  keyed.sort(([a], [b]) => {
    // What is not known stays last, whichever way round.
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" && typeof b === "number"
      ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    return descending ? -order : order;
  });
  body.append(...keyed.map(([, row]) => row));
  for (const [index, head] of [...table.tHead.rows[0].cells].entries()) {
    if (index === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
}

/** Titles become buttons: the first press sorts with the best first, the next turns it round. */
function makeSortable(table) {
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = element("button", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const first = head.dataset.better === "more" ? "descending" : "ascending";
      const next = now === null ? first : now === "ascending" ? "descending" : "ascending";
      sortTable(table, column, next === "descending");
    });
  }
}
for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);

const rows = byId("table") ? [...byId("table").tBodies[0].rows] : [];

/** The columns that hold figures: field, place, title, unit, and which end is better. */
const figureColumns = byId("table")
  ? [...byId("table").tHead.rows[0].cells].flatMap((head, column) => head.dataset.figure ? [{
      field: head.dataset.figure, column, title: head.textContent, symbol: head.dataset.symbol, style: head.dataset.style,
      scale: Number(head.dataset.scale), more: head.dataset.better === "more",
      explanation: head.title,
    }] : [])
  : [];

const recordOf = (row) => data.records[Number(row.dataset.record)];
const nameOf = (record) => {
  const others = data.records.filter((other) => other.chip === record.chip);
  const parts = ["stack", "dtype", "batch", "model"].filter((word) =>
    others.some((other) => other[word] !== record[word]));
  return [record.chip, ...parts.map((word) => `${word === "batch" ? "batch " : ""}${record[word]}`)].join(" ");
};

/** The rows that the filters leave, in the order of the table. */
let shown = rows;

function filterRows() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const family = byId("family").value;
  const basis = byId("basis").value;
  shown = [];
  for (const row of rows) {
    const record = recordOf(row);
    const about = record.chip_row || {};
    const text = [record.chip, about.name, about.vendor, about.family, record.stack, record.dtype,
      record.model, record.batch].join(" ").toLowerCase();
    const stays = words.every((word) => text.includes(word))
      && (!family || row.dataset.family === family) && (!basis || row.dataset.basis === basis);
    row.hidden = !stays;
    if (stays) shown.push(row);
  }
  byId("count").textContent = `${shown.length} of ${rows.length} shown`;
  document.dispatchEvent(new Event("rows"));
}

if (rows.length) {
  for (const id of ["filter", "family", "basis"]) byId(id).addEventListener("input", filterRows);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("intervals").addEventListener("input", (event) =>
    byId("table").classList.toggle("no-intervals", !event.target.checked));
  for (const row of rows) {
    const head = row.cells[0];
    const button = element("button", { type: "button" }, head.firstChild.textContent);
    head.firstChild.replaceWith(button);
    button.addEventListener("click", () => {
      choose(Number(row.dataset.record));
      byId("chip-title").scrollIntoView();
    });
  }
}
