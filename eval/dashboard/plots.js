// Charts: intervals on a track (plain elements, so they stretch) and plots with two axes (SVG).

const within = (value, min, max) => Math.min(1, Math.max(0, (value - min) / (max - min || 1)));

// A mean with its interval between `min` and `max`; `zero` draws a line there.
function track({ mean: middle, low, high }, { min = 0, max = 1, zero = null, kind = "" } = {}) {
  const at = (value) => within(value, min, max);
  return el("div", { class: `track ${kind}`, "aria-hidden": "true" },
    zero === null ? null : el("i", { class: "zero", vars: { at: at(zero) } }),
    el("i", { class: "range", vars: { low: at(low), high: at(high) } }),
    el("b", { class: "dot", vars: { at: at(middle) } }));
}

// Round steps that cover min to max: [first, ..., last].
function ticks(min, max, wanted = 5) {
  const rough = (max - min || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((n) => n * power >= rough) * power;
  const first = Math.floor(min / step + 1e-9);
  const last = Math.ceil(max / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, n) => Number(((first + n) * step).toPrecision(8)));
}

// The numbers below a column of tracks.
function scale(min, max, write = fixed) {
  const shown = ticks(min, max).filter((tick) => tick >= min - 1e-9 && tick <= max + 1e-9);
  const digits = shown.every((tick) => Number(tick.toFixed(1)) === tick) ? 1 : 2;
  return el("div", { class: "scale", "aria-hidden": "true" },
    shown.map((tick) => el("span", { vars: { at: within(tick, min, max) } }, write(tick, digits))));
}

// An empty plot with its axes. Returns the drawing and functions from values to places in it.
function axes(width, height, { x, y, xLabel, yLabel, xWrite = String, yWrite = String, title }) {
  const [left, right, top, bottom] = [56, 18, 12, 40];
  const placeX = (value) => left + ((value - x[0]) / (x.at(-1) - x[0])) * (width - left - right);
  const placeY = (value) => height - bottom - ((value - y[0]) / (y.at(-1) - y[0])) * (height - top - bottom);
  const drawing = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title },
    y.map((tick) => [
      svg("line", { class: "grid", x1: left, x2: width - right, y1: placeY(tick), y2: placeY(tick) }),
      svg("text", { x: left - 7, y: placeY(tick) + 4, "text-anchor": "end" }, yWrite(tick)),
    ]),
    x.map((tick, n) => [
      svg("line", { class: "grid", x1: placeX(tick), x2: placeX(tick), y1: top, y2: height - bottom }),
      n % Math.ceil((x.length * 52) / width) ? null
        : svg("text", { x: placeX(tick), y: height - bottom + 17, "text-anchor": "middle" }, xWrite(tick)),
    ]),
    svg("text", { class: "axis", x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" }, xLabel),
    svg("text", { class: "axis", x: 12, y: (top + height - bottom) / 2, "text-anchor": "middle",
      transform: `rotate(-90 12 ${(top + height - bottom) / 2})` }, yLabel));
  return { drawing, placeX, placeY };
}

const line = (points, kind) => svg("polyline", { class: kind, points: points.map((point) => point.join(",")).join(" ") });

// Where a label may stand from its point [anchor, right, down]: beside it, else farther off, with a leader.
const NEAR = [["start", 10, 4], ["end", -10, 4], ["middle", 0, -11], ["middle", 0, 19], ["start", 9, -8], ["start", 9, 15], ["end", -9, -8], ["end", -9, 15]];
const FAR = [24, 40, 56, 72, 88, 104].flatMap((far) => [["start", far, 4], ["end", -far, 4], ["middle", 0, 4 - far],
  ...["start", "end"].flatMap((anchor) => [-1, 1].map((way) => [anchor, (anchor === "start" ? 1 : -1) * (far / 2 + 8), 4 + (way * far) / 2])), ["start", 14, 4 - far], ["start", 14, 4 + far]]);

// How far a point lies from the line between two others.
function distance([x, y], [fromX, fromY], [toX, toY]) {
  const [dx, dy] = [toX - fromX, toY - fromY];
  const along = within((x - fromX) * dx + (y - fromY) * dy, 0, dx * dx + dy * dy);
  return Math.hypot(x - fromX - along * dx, y - fromY - along * dy);
}

const overlap = (one, other) => one[2] >= other[0] && one[0] <= other[2] && one[3] >= other[1] && one[1] <= other[3];
// Whether a line meets a box [left, top, right, bottom], looked at in steps smaller than a label.
const meets = ([fromX, fromY], [toX, toY], box) => Array.from({ length: 13 }, (_, n) => [fromX + (n / 12) * (toX - fromX), fromY + (n / 12) * (toY - fromY)])
  .some(([x, y]) => overlap([x, y, x, y], box));

// Finds a place for the label of each of the points [x, y], where no other label or point stands, nor
// in between.
function labeller(width, height, points) {
  const marks = points.map(([x, y]) => [x - 6, y - 6, x + 6, y + 6]);
  const labels = [];
  return (x, y, text, bold) => {
    const length = text.length * (bold ? 7.6 : 7.3);
    for (const [n, [anchor, dx, dy]] of [...NEAR, ...FAR].entries()) {
      const from = x + dx - (anchor === "end" ? length : anchor === "middle" ? length / 2 : 0);
      const box = [from, y + dy - 11, from + length, y + dy + 3];
      if (box[0] < 56 || box[2] > width || box[1] < 2 || box[3] > height - 38 || [...marks, ...labels].some((other) => overlap(box, other))) continue;
      const end = [Math.min(box[2], Math.max(box[0], x)), Math.min(box[3], Math.max(box[1], y))];
      const away = 7 / Math.hypot(end[0] - x, end[1] - y);
      const start = [x + away * (end[0] - x), y + away * (end[1] - y)];
      if (points.some((point) => distance(point, start, end) < 5) || labels.some((other) => meets(start, end, other))) continue;
      labels.push(box);
      return [n < NEAR.length ? null : svg("line", { class: "leader", x1: start[0], y1: start[1], x2: end[0], y2: end[1] }),
        svg("text", { class: bold ? "label strong" : "label", x: x + dx, y: y + dy, "text-anchor": anchor }, text)];
    }
    return [];
  };
}

// Points {name, x, y, low, high, kind}; `joined` are drawn as a line, from left to right.
function scatter(width, points, { xLabel, yLabel, xWrite, yWrite, joined, title }) {
  const height = Math.max(300, Math.min(400, width * 0.72));
  const xs = ticks(0, Math.max(...points.map(({ x }) => x)) * 1.05);
  const ys = ticks(0, Math.max(...points.map(({ high }) => high)));
  const { drawing, placeX, placeY } = axes(width, height, { x: xs, y: ys, xLabel, yLabel, xWrite, yWrite, title });
  const placed = points.map((point) => ({ ...point, px: placeX(point.x), py: placeY(point.y) }));
  const label = labeller(width, height, placed.map(({ px, py }) => [px, py]));
  drawing.append(line(joined.map(({ x, y }) => [placeX(x), placeY(y)]), "front"));
  for (const { px, py, kind, name, low, high, tip } of placed) {
    const mark = kind === "router"
      ? svg("path", { d: `M${px} ${py - 9}L${px + 9} ${py}L${px} ${py + 9}L${px - 9} ${py}Z` })
      : svg("circle", { cx: px, cy: py, r: 5 });
    drawing.append(svg("g", { class: `point ${kind}`, "data-tip": tip },
      svg("line", { class: "whisker", x1: px, x2: px, y1: placeY(low), y2: placeY(high) }), mark));
  }
  const urgent = placed.toSorted((one, other) => (other.kind === "router") - (one.kind === "router") || other.y - one.y);
  for (const { px, py, name, kind } of urgent) {
    fill(drawing, {}, label(px, py, name, kind === "router"));
  }
  return drawing;
}
