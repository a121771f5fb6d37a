// Put at the end of a copy of the report by `cargo xtask report-look`: uses all of it as a person would and tells the page
// around it, from where the task reads it, what it found.
{
  const found = { faults: window.faults, resources: performance.getEntriesByType("resource").length };
  const fault = (text) => found.faults.push(text);
  const set = (id, value) => {
    byId(id).value = value;
    byId(id).dispatchEvent(new Event("input"));
  };
  const sound = (id, what) => {
    const markup = byId(id).innerHTML;
    if (/NaN|Infinity|undefined|\[object/.test(markup)) fault(`${what}: ${markup.match(/.{60}(NaN|Infinity|undefined|\[object)/)?.[0]}`);
    return markup;
  };
  if (document.documentElement.dataset.ready !== "yes") fault("the page's script did not come to its end");
  found.lines = jsonLines();
  found.rows = rows.length;

  const table = byId("table");
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    for (let press = 0; press < 2; press += 1) {
      head.querySelector("button").click();
      const keys = [...table.tBodies[0].rows].map((row) => sortKey(row, column));
      const known = keys.filter((key) => key !== null);
      if (keys.slice(0, known.length).includes(null)) fault(`${head.textContent}: a blank before a value`);
      if (head.dataset.figure) {
        const down = head.getAttribute("aria-sort") === "descending";
        if (known.some((key, i) => i > 0 && (down ? key > known[i - 1] : key < known[i - 1]))) fault(`${head.textContent}: not in order`);
      }
    }
    if (head.getAttribute("aria-sort") === null) fault(`${head.textContent}: no sign of its order`);
  }

  const family = byId("family").options[1].value;
  set("family", family);
  found.inFamily = shown.length;
  if (shown.length !== rows.filter((row) => row.dataset.family === family).length) fault("the filter by family is wrong");
  set("family", "");
  set("filter", "no chip is called so");
  if (shown.length !== 0 || !byId("pareto").textContent.includes("No chip")) fault("nothing left is not said");
  set("filter", rows[0].cells[0].querySelector("button").textContent);
  if (!shown.includes(rows[0])) fault("a chip is not found by its name");
  set("filter", "");
  if (shown.length !== rows.length) fault("filters do not end");

  for (const x of byId("pareto-x").options) {
    for (const y of byId("pareto-y").options) {
      byId("pareto-x").value = x.value;
      byId("pareto-y").value = y.value;
      drawPareto();
      sound("pareto", `${y.text} by ${x.text}`);
    }
    byId("rank-left").value = x.value;
    drawRank("left");
    sound("rank-left-chart", x.text);
  }
  found.layers = 0;
  for (const option of byId("chip").options) {
    byId("chip").value = option.value;
    chosen = Number(option.value);
    drawChip();
    for (const id of ["roofline", "layers", "figures", "layer-table"]) sound(id, `${id} of ${option.text}`);
    const due = layersOf(chosen).filter((l) => l.operations > 0 && l.bytes > 0 && l.seconds > 0).length;
    const circles = byId("roofline").querySelectorAll("circle.layer").length;
    if (circles !== due) fault(`${option.text}: ${circles} of ${due} layers drawn`);
    found.layers += circles;
    const bars = [...byId("layers").querySelectorAll("rect")].length;
    if (due > 0 && bars === 0) fault(`${option.text}: no bars`);
  }
  for (const svg of document.querySelectorAll("svg")) {
    if (!svg.querySelector("title") || !svg.querySelector("desc")) fault("a chart without title or description");
  }
  for (const item of document.querySelectorAll("button, select, input, [tabindex='0']")) {
    const named = item.labels?.length || item.getAttribute("aria-label") || item.getAttribute("aria-labelledby") || item.textContent.trim();
    if (!named) fault(`nothing names a ${item.tagName}`);
  }
  found.overflow = document.documentElement.scrollWidth - innerWidth;
  found.texts = PROBES.map(([value, symbol, style]) => quantity(value, symbol, style));
  parent.postMessage(JSON.stringify(found).replaceAll("<", "\\u003c"), "*");
}
