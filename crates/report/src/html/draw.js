// The pieces of charts: SVG elements, logarithmic axes, marks of basis, whiskers.

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element; `title` is its tooltip and its name for those who do not see it. */
function shape(name, attributes = {}, title = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (title) {
    const text = document.createElementNS(SVG, "title");
    text.textContent = title;
    made.append(text);
  }
  return made;
}

function label(text, attributes) {
  const made = shape("text", attributes);
  made.textContent = text;
  return made;
}

/** An empty chart as wide as its place, with what it shows in words. */
function canvas(place, height, title, description) {
  const width = Math.max(280, Math.floor(place.clientWidth));
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "group" }, title);
  svg.setAttribute("aria-label", title);
  const words = shape("desc");
  words.textContent = description;
  svg.append(words);
  place.replaceChildren(svg);
  return { svg, width, height };
}

const PREFIXES = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""],
  [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"], [1e-12, "p"], [1e-15, "f"]];

/** A number with three significant digits, thousands apart. */
function significant(value) {
  if (value === 0) return "0";
  const decimals = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  let text = value.toFixed(Math.min(decimals, 100));
  // Rounding may have carried into one more digit: 9.996 becomes 10.00, which should be 10.0.
  if (decimals > 0 && text.replace(/^[-0.]+/, "").replace(".", "").length > 3) text = value.toFixed(decimals - 1);
  return thousands(text);
}

const thousands = (text) => {
  const [whole, fraction] = text.split(".");
  const apart = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction === undefined ? apart : `${apart}.${fraction}`;
};

/** A number as the tables write it: the program's own rules for each style of unit. */
function quantity(value, symbol, style = symbol === "s" ? "small-prefixed" : "prefixed") {
  const prefixed = style === "prefixed" || style === "small-prefixed";
  const sizes = style === "prefixed" ? PREFIXES : PREFIXES.filter(([size]) => size <= 1);
  let [size, prefix] = [style === "percent" ? 0.01 : 1, ""];
  if (prefixed && value !== 0) [size, prefix] = sizes.find(([least]) => Math.abs(value) >= least * 0.9995) || sizes.at(-1);
  const scaled = value / size;
  const whole = Number.isInteger(scaled);
  let text = significant(scaled);
  if (style === "bare") text = scaled.toFixed(0);
  else if ((style === "plain" && whole) || (prefixed && whole && scaled < 1e4)) text = thousands(scaled.toFixed(0));
  else if (style === "dollars" && scaled >= 0.0995 && scaled < 999.5) text = scaled.toFixed(2);
  if (style === "dollars") return `$${text}${symbol}`;
  const close = prefix === "" && (symbol === "" || symbol.startsWith("/"));
  return close ? `${text}${symbol}` : `${text} ${prefix}${symbol}`;
}

/** A logarithmic scale from the values to the pixels, with room at both ends. */
function logScale(values, from, to) {
  const known = values.filter((value) => value > 0 && Number.isFinite(value));
  let low = Math.log10(Math.min(...known));
  let high = Math.log10(Math.max(...known));
  const room = Math.max(0.08 * (high - low), 0.1);
  [low, high] = [low - room, high + room];
  const at = (value) => from + (to - from) * (Math.log10(value) - low) / (high - low);
  return { at, low, high };
}

/** Round numbers on a scale, at most `most`. */
function ticks(scale, most) {
  for (const steps of [[1, 2, 5], [1, 3], [1]]) {
    const found = [];
    for (let power = Math.floor(scale.low); power <= scale.high; power += 1) {
      for (const step of steps) found.push(Number(`${step}e${power}`));
    }
    const inside = found.filter((v) => Math.log10(v) >= scale.low && Math.log10(v) <= scale.high);
    if (inside.length <= most || steps.length === 1) {
      const every = Math.ceil(inside.length / most);
      return inside.filter((_, index) => index % every === 0);
    }
  }
  return [];
}

/** Draws both axes of a chart within `box` and gives the scales. */
function axes(chart, box, x, y) {
  const { svg } = chart;
  const across = logScale(x.values, box.left, box.right);
  const up = logScale(y.values, box.bottom, box.top);
  for (const value of ticks(across, Math.max(2, Math.floor((box.right - box.left) / 80)))) {
    const at = across.at(value);
    svg.append(shape("line", { class: "grid", x1: at, x2: at, y1: box.top, y2: box.bottom }));
    svg.append(label(quantity(value, x.symbol, x.style), { class: "quiet", x: at, y: box.bottom + 16, "text-anchor": "middle" }));
  }
  for (const value of ticks(up, 8)) {
    const at = up.at(value);
    svg.append(shape("line", { class: "grid", x1: box.left, x2: box.right, y1: at, y2: at }));
    svg.append(label(quantity(value, y.symbol, y.style), { class: "quiet", x: box.left - 6, y: at + 4, "text-anchor": "end" }));
  }
  svg.append(label(x.title, { x: box.right, y: box.bottom + 34, "text-anchor": "end" }));
  svg.append(label(y.title, { x: 0, y: 12 }));
  return { across, up };
}

/** The mark of a basis: full, half full or empty, so that it reads without color. */
function mark(x, y, basis, title, extra = "") {
  const group = shape("g", { class: basis }, title);
  const full = basis === "measured" ? "full" : "";
  group.append(shape("circle", { class: `mark ${full} ${extra}`, cx: x, cy: y, r: 5 }));
  if (basis === "simulated") {
    group.append(shape("path", { class: "half", d: `M ${x} ${y - 5} A 5 5 0 0 0 ${x} ${y + 5} Z` }));
  }
  return group;
}

/** A line from low to high with ends; nothing where the interval is a point. */
function whisker(basis, a, b, fixed, upright, extra = "") {
  if (!(Math.abs(a - b) > 0.5)) return null;
  const e = 3;
  const d = upright
    ? `M ${fixed - e} ${a} h ${2 * e} M ${fixed - e} ${b} h ${2 * e} M ${fixed} ${a} V ${b}`
    : `M ${a} ${fixed - e} v ${2 * e} M ${b} ${fixed - e} v ${2 * e} M ${a} ${fixed} H ${b}`;
  return shape("path", { class: `whisker ${basis} ${extra}`, d });
}

/** Lets a pressed key do what a click does. */
function pressable(item, name, act) {
  item.setAttribute("tabindex", "0");
  item.setAttribute("role", "button");
  item.setAttribute("aria-label", name);
  item.addEventListener("click", act);
  item.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      act();
    }
  });
}
