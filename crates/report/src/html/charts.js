// The charts: trade-offs, energy and cost, and one chip's roofline, layers and figures.

let chosen = rows.length ? Number(rows[0].dataset.record) : -1;

/** What the table shows of a record's figure, so that charts write numbers as the table does. */
function cellText(row, column) {
  return row.cells[column.column].textContent.trim();
}

/** The rows that have all the figures, each with them and its texts. */
function pointsOf(columns) {
  return shown.flatMap((row) => {
    const record = recordOf(row);
    const figures = columns.map((column) => record[column.field]);
    if (figures.some((figure) => !figure || !(figure.value > 0))) return [];
    const texts = columns.map((column) => `${column.title} ${cellText(row, column)}`);
    return [{ index: Number(row.dataset.record), name: nameOf(record), figures, text: texts.join(", ") }];
  });
}

const weakest = (figures) =>
  ["estimated", "simulated", "measured"].find((basis) => figures.some((f) => f.basis === basis));
const scaled = (column, value) => value * column.scale;

/** Those that no other one beats in both. */
function front(points, [x, y]) {
  const better = (a, b, column) => (column.more ? a > b : a < b);
  const beats = (a, b) => [x, y].every((column, i) =>
    !better(b.figures[i].value, a.figures[i].value, column))
    && [x, y].some((column, i) => better(a.figures[i].value, b.figures[i].value, column));
  return points.filter((point) => !points.some((other) => beats(other, point)))
    .sort((a, b) => a.figures[0].value - b.figures[0].value);
}

function drawPareto() {
  const columns = ["pareto-x", "pareto-y"].map((id) => figureColumns[Number(byId(id).value)]);
  const points = pointsOf(columns);
  const place = byId("pareto");
  const [x, y] = columns;
  if (!points.length) {
    place.textContent = "No chip that the filters leave has both figures.";
    byId("pareto-front").textContent = "";
    return;
  }
  const best = front(points, columns);
  const words = (column) => `${column.title}, ${column.more ? "more" : "less"} is better`;
  const chart = canvas(place, 420, `${y.title} by ${x.title}`,
    `${points.length} chips on logarithmic axes. None beats: ${best.map((p) => `${p.name} (${p.text})`).join("; ")}.`);
  const box = { left: 66, right: chart.width - 14, top: 26, bottom: chart.height - 44 };
  const axis = (column, i) => ({
    title: words(column), symbol: column.symbol, style: column.style,
    values: points.flatMap((p) => [p.figures[i].value, p.figures[i].low || p.figures[i].value, p.figures[i].high]
      .map((value) => scaled(column, value))),
  });
  const { across, up } = axes(chart, box, axis(x, 0), axis(y, 1));
  const at = (p) => [across.at(scaled(x, p.figures[0].value)), up.at(scaled(y, p.figures[1].value))];
  const path = best.map((p, i) => {
    const [px, py] = at(p);
    // The corner that both neighbors reach: from the left, a level first where more is better upward and leftward.
    return i === 0 ? `M ${px} ${py}` : x.more ? `V ${py} H ${px}` : `H ${px} V ${py}`;
  }).join(" ");
  chart.svg.append(shape("path", { class: "front", d: path }));
  for (const point of [...points].reverse()) {
    const [px, py] = at(point);
    const isBest = best.includes(point);
    const [fx, fy] = point.figures;
    const end = (scale, column, value, otherwise) => (value > 0 ? scale.at(scaled(column, value)) : otherwise);
    const faint = isBest || point.index === chosen ? "" : "faint";
    for (const line of [
      whisker(fx.basis, end(across, x, fx.low, box.left), end(across, x, fx.high), py, false, faint),
      whisker(fy.basis, end(up, y, fy.low, box.bottom), end(up, y, fy.high), px, true, faint),
    ]) if (line) chart.svg.append(line);
    const item = mark(px, py, weakest(point.figures), `${point.name}: ${point.text}`,
      point.index === chosen ? "chosen" : "");
    item.addEventListener("click", () => choose(point.index));
    if (isBest) pressable(item, `${point.name}: ${point.text}`, () => choose(point.index));
    chart.svg.append(item);
  }
  const used = [];
  for (const point of best) {
    const [px, py] = at(point);
    const end = px > box.right - 150;
    const spot = { x: px + (end ? -8 : 8), y: py - 8 };
    if (used.some((other) => Math.abs(other.y - spot.y) < 13 && Math.abs(other.x - spot.x) < 150)) continue;
    used.push(spot);
    chart.svg.append(label(point.name, { ...spot, "text-anchor": end ? "end" : "start" }));
  }
  byId("pareto-front").textContent =
    `${points.length} ${points.length === 1 ? "chip" : "chips"}. No chip beats these in both (dashed line): ${best.map((p) => p.name).join(", ")}.`;
}

/** The best dozen by one figure, with their intervals. */
function drawRank(side) {
  const column = figureColumns[Number(byId(`rank-${side}`).value)];
  const place = byId(`rank-${side}-chart`);
  const all = pointsOf([column]);
  const order = (a, b) => (a.figures[0].value - b.figures[0].value) * (column.more ? -1 : 1);
  const best = all.sort(order).slice(0, 12);
  if (!best.length) {
    place.textContent = "No chip that the filters leave has this figure.";
    return;
  }
  const chart = canvas(place, 46 + best.length * 34, `${column.title}: the best ${best.length} of ${all.length}`,
    best.map((p) => `${p.name}: ${p.text}`).join("; "));
  const scale = logScale(best.flatMap(({ figures: [f] }) => [f.value, f.low || f.value, f.high].map((v) => scaled(column, v))),
    8, chart.width - 8);
  const bottom = chart.height - 24;
  for (const value of ticks(scale, Math.max(2, Math.floor(chart.width / 90)))) {
    const at = scale.at(value);
    chart.svg.append(shape("line", { class: "grid", x1: at, x2: at, y1: 4, y2: bottom }));
    chart.svg.append(label(quantity(value, column.symbol, column.style), { class: "quiet", x: at, y: bottom + 16, "text-anchor": "middle" }));
  }
  best.forEach((point, i) => {
    const [figure] = point.figures;
    const y = 26 + i * 34;
    const at = (value) => (value > 0 ? scale.at(scaled(column, value)) : 8);
    const line = whisker(figure.basis, at(figure.low), at(figure.high), y, false);
    if (line) chart.svg.append(line);
    const item = mark(at(figure.value), y, figure.basis, `${point.name}: ${point.text}`,
      point.index === chosen ? "chosen" : "");
    pressable(item, `${point.name}: ${point.text}`, () => choose(point.index));
    chart.svg.append(item);
    chart.svg.append(label(`${point.name} · ${point.text.slice(column.title.length + 1)}`, { x: 8, y: y - 9 }));
  });
}

function drawRoofline(record, layers) {
  const place = byId("roofline");
  const drawn = layers.filter((l) => l.operations > 0 && l.bytes > 0 && l.seconds > 0);
  const note = byId("roofline-note");
  note.textContent = "";
  if (!record.roof) {
    place.textContent = "The record has no peak of the chip for this number format.";
    return;
  }
  const { peak, bandwidth } = record.roof;
  const ridge = bandwidth ? peak.value / bandwidth.value : 10;
  const chart = canvas(place, 380, `Roofline of ${nameOf(record)}`,
    `${drawn.length} layers below a peak of ${quantity(peak.value, "OP/s")}${bandwidth ? ` and a bandwidth of ${quantity(bandwidth.value, "B/s")}` : ""}.`);
  const box = { left: 84, right: chart.width - 14, top: 26, bottom: chart.height - 44 };
  const intensity = (l) => l.operations / l.bytes;
  const rate = (l) => l.operations / l.seconds;
  const { across, up } = axes(chart, box,
    { title: "operations per byte moved", symbol: "", style: "plain", values: [...drawn.map(intensity), ridge / 3, ridge * 3] },
    { title: "operations a second", symbol: "OP/s", values: [...drawn.map(rate), peak.value] });
  const left = 10 ** across.low;
  const right = 10 ** across.high;
  const floor = 10 ** up.low;
  const start = bandwidth ? Math.max(left, floor / bandwidth.value) : left;
  const level = up.at(peak.value);
  chart.svg.append(shape("path", { class: "roof", d: bandwidth && start < ridge
    ? `M ${across.at(start)} ${up.at(start * bandwidth.value)} L ${across.at(Math.min(ridge, right))} ${up.at(Math.min(peak.value, right * bandwidth.value))} H ${box.right}`
    : `M ${box.left} ${level} H ${box.right}` },
    `peak ${quantity(peak.value, "OP/s")} (${peak.source})`));
  const total = layers.reduce((sum, l) => sum + l.seconds, 0);
  const basis = record.latency_s.basis;
  for (const layer of [...drawn].sort((a, b) => b.seconds - a.seconds)) {
    chart.svg.append(shape("circle", { class: `layer ${basis}`, cx: across.at(intensity(layer)), cy: up.at(rate(layer)),
      r: Math.max(2.5, 30 * Math.sqrt(layer.seconds / total)) },
      `${layer.name} (${layer.kernel}): ${quantity(layer.seconds, "s")}, ${quantity(rate(layer), "OP/s")}, ${significant(intensity(layer))} operations a byte`));
  }
  chart.svg.append(label(`peak ${quantity(peak.value, "OP/s")}`, { x: box.right, y: level - 6, "text-anchor": "end" }));
  note.textContent = `A circle is a layer, its area its share of the time. Line: ${quantity(peak.value, "OP/s")} dense in ${record.dtype}`
    + (bandwidth ? `, ${quantity(bandwidth.value, "B/s")} of main memory.` : "; no bandwidth is known.")
    + (layers.length ? "" : " The record has no layers.");
}

function drawLayers(record, layers) {
  const place = byId("layers");
  const total = layers.reduce((sum, l) => sum + l.seconds, 0);
  byId("layer-details").hidden = !layers.length;
  byId("layers-note").textContent = record.layers_source || "";
  if (!layers.length) {
    place.textContent = "The record has no layers. `compare --html`, `compare --json --layers` and `bench --layers` record them.";
    return;
  }
  const most = 16;
  const bars = [...layers].sort((a, b) => b.seconds - a.seconds);
  const rest = bars.splice(most);
  if (rest.length) {
    bars.push({ name: `${rest.length} others`, kernel: "", seconds: rest.reduce((sum, l) => sum + l.seconds, 0) });
  }
  const words = (l) => `${l.name}${l.kernel ? ` (${l.kernel})` : ""} · ${quantity(l.seconds, "s")}, ${significant(100 * l.seconds / total)} %`;
  const chart = canvas(place, 8 + bars.length * 30, `Time by layer on ${nameOf(record)}`, bars.map(words).join("; "));
  // What is left over has no bar: it would dwarf those of layers.
  const longest = bars[0].seconds;
  const basis = record.latency_s.basis;
  bars.forEach((layer, i) => {
    const y = 4 + i * 30;
    if (layer.kernel) chart.svg.append(shape("rect", { class: `bar ${basis}`, x: 1, y: y + 15, height: 9,
      width: Math.max(1, (chart.width - 4) * layer.seconds / longest) }, words(layer)));
    chart.svg.append(label(shorten(words(layer), chart.width), { x: 0, y: y + 11 }));
  });
  const heads = ["layer", "kernel", "time", "share", "operations", "bytes"];
  const numbers = layers.map((l) => element("tr", {}, element("th", { scope: "row" }, l.name), element("td", {}, l.kernel),
    ...[[l.seconds, quantity(l.seconds, "s")], [l.seconds / total, `${significant(100 * l.seconds / total)} %`],
      [l.operations, l.operations > 0 ? quantity(l.operations, "OP") : ""], [l.bytes, l.bytes > 0 ? quantity(l.bytes, "B") : ""]]
      .map(([value, text]) => element("td", { "data-v": value }, text))));
  byId("layer-table").replaceChildren(
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...numbers));
}

/** A text that fits a width, its middle left out where it must be. */
function shorten(text, width) {
  const most = Math.floor(width / 6.6);
  if (text.length <= most) return text;
  const [name, rest] = [text.slice(0, text.lastIndexOf(" · ")), text.slice(text.lastIndexOf(" · "))];
  const room = Math.max(4, most - rest.length - 1);
  return `${name.slice(0, Math.ceil(room / 2))}…${name.slice(name.length - Math.floor(room / 2))}${rest}`;
}

function drawFigures(record, row) {
  const heads = ["figure", "value", "basis", "source"];
  const lines = figureColumns.filter((column) => record[column.field]).map((column) =>
    element("tr", {}, element("th", { scope: "row", title: column.explanation }, column.title),
      element("td", { "data-v": record[column.field].value }, cellText(row, column)),
      element("td", {}, record[column.field].basis), element("td", { class: "source" }, record[column.field].source)));
  byId("figures").replaceChildren(
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...lines));
}

function drawChip() {
  const record = data.records[chosen];
  const row = rows.find((candidate) => Number(candidate.dataset.record) === chosen);
  for (const other of rows) other.classList.toggle("chosen", other === row);
  const layers = layersOf(chosen);
  const about = record.chip_row || {};
  byId("chip-note").textContent = [about.name, about.vendor, about.year, `with ${record.stack}, ${record.dtype}, batch ${record.batch}`,
    `latency ${cellText(row, figureColumns.find((column) => column.field === "latency_s") || figureColumns[0])}`]
    .filter(Boolean).join(" · ");
  drawRoofline(record, layers);
  drawLayers(record, layers);
  drawFigures(record, row);
}

/** Shows one chip below and marks it in the charts. */
function choose(index) {
  chosen = index;
  byId("chip").value = String(index);
  drawAll();
}

function drawAll() {
  drawPareto();
  drawRank("left");
  drawRank("right");
  drawChip();
}

if (rows.length && figureColumns.length) {
  const options = (id, wanted) => {
    byId(id).append(...figureColumns.map((column, i) => element("option", { value: i }, column.title)));
    const found = wanted.map((field) => figureColumns.findIndex((column) => column.field === field)).find((i) => i >= 0);
    byId(id).value = String(found ?? 0);
  };
  options("pareto-x", ["latency_s"]);
  options("pareto-y", ["throughput_per_usd", "price_usd", "throughput_per_s"]);
  options("rank-left", ["energy_j", "latency_s"]);
  options("rank-right", ["throughput_per_usd", "price_usd", "throughput_per_s"]);
  byId("chip").append(...rows.map((row) => element("option", { value: row.dataset.record }, nameOf(recordOf(row)))));
  for (const id of ["pareto-x", "pareto-y"]) byId(id).addEventListener("input", drawPareto);
  for (const side of ["left", "right"]) byId(`rank-${side}`).addEventListener("input", () => drawRank(side));
  byId("chip").addEventListener("input", (event) => choose(Number(event.target.value)));
  document.addEventListener("rows", drawAll);
  let width = document.body.clientWidth;
  addEventListener("resize", () => {
    // Height alone changes when a phone hides its bars.
    if (document.body.clientWidth === width) return;
    width = document.body.clientWidth;
    drawAll();
  });
  filterRows();
}
document.documentElement.dataset.ready = "yes";
