/* Draws the wiring explorers of a page: a cell, a slider over epochs, a time line. Needs d3.

NASCORE_EXPLORERS holds, compressed, the colours and, for each element of class nascore_explorer in
turn, its arms, as nascore/book/explorer.py lists them. Everything is drawn in pixels of the element's
width, so that letters are as large on a phone as on a desk. */
"use strict";

const DASHES = ["none", "6 3", "8 3 2 3", "2 3"];
const SECONDS = 12; // that it takes to play a whole search
const MARGIN = 44; // on both sides of the time line, and of the slider above it

const MARKUP = `
  <div class="choices">
    <label>Arm <select class="arm"></select></label>
    <label>Seed <select class="seed"></select></label>
    <label>Colour <select class="colour">
      <option value="operation">operation</option><option value="cost">cost</option>
    </select></label>
  </div>
  <svg class="cell" role="img"></svg>
  <p class="legend"></p>
  <p class="status"></p>
  <div class="player">
    <button type="button"></button>
    <input type="range" min="0" step="1" aria-label="Epoch">
  </div>
  <svg class="time" role="img"></svg>`;

/* A run with probabilities and nats in place of whole numbers, NaN in place of null. */
function decode(run) {
  const scaled = (scale) => (values) => values.map((v) => (v === null ? NaN : v / scale));
  const [p, none] = [run.percent.map(scaled(100)), run.none.map(scaled(1000))];
  const [cost, output_cost] = [run.cost.map(scaled(10000)), scaled(1000)(run.output_cost)];
  return { ...run, p, none, cost, output_cost };
}

const title = ({ from, to }) => `(${from},${to})`;

function explore(element, data, colours) {
  const arms = data.map((arm) => ({ ...arm, runs: arm.runs.map(decode) }));
  const root = d3.select(element).html(MARKUP);
  const find = (...names) => names.map((name) => root.select(name));
  const [armMenu, seedMenu, colourMenu] = find(".arm", ".seed", ".colour");
  const [cell, legend, status, time] = find("svg.cell", ".legend", ".status", "svg.time");
  const [button, slider] = find("button", "input");
  const scale = [colours.earns, colours.output, colours.costs], nothing = colours.output;
  const reduced = matchMedia("(prefers-reduced-motion: reduce)");
  let arm = arms[0], run = arm.runs[0], epoch = run.active.length - 1;
  let width, operationColour, costColour, timer, moveCursor;

  const last = () => run.active.length - 1;
  const byCost = () => colourMenu.property("value") === "cost";
  const fill = (menu, names) => menu.selectAll("option").data(names).join("option").text(String);

  /* What is shown: an arm and a seed, then an epoch. */

  function chooseArm(index) {
    pause();
    arm = arms[index];
    fill(seedMenu, arm.runs.map((other) => other.seed));
    operationColour = d3.scaleOrdinal(arm.operations.filter((o) => o !== "none"), colours.operations);
    const costs = arm.runs.flatMap((other) => other.cost.flat().map(Math.abs));
    const most = d3.quantile(costs, 0.6) || 1; // what is more has the full colour
    costColour = d3.scaleDivergingSqrt([-most, 0, most], d3.piecewise(scale)).clamp(true);
    chooseRun(Math.max(0, arm.runs.findIndex((other) => other.seed === run.seed)));
  }

  function chooseRun(index) {
    pause();
    const share = epoch / last(); // the same point of a search that has other epochs
    run = arm.runs[index];
    epoch = Math.round(share * last());
    seedMenu.property("selectedIndex", index);
    slider.attr("max", last());
    draw();
  }

  function draw() {
    width = element.clientWidth;
    drawLegend();
    moveCursor = drawTime(time, arm, run, width, goTo, colours);
    show();
  }

  function show() {
    const cost = d3.format("+.2f")(run.output_cost[epoch]), active = run.active[epoch];
    const found = active === null || isNaN(run.output_cost[epoch]) ? "diverged"
      : `${active} of ${arm.edges.length} edges active, L − H ${cost} nat`;
    slider.property("value", epoch).attr("aria-valuetext", `epoch ${epoch} of ${last()}, ${found}`);
    status.html(`<b>Epoch ${epoch}</b> of ${last()} (step ${epoch * arm.steps}): ${found}`);
    drawCell(cell, arm, arm.edges.map(look), width, mark, colours);
    moveCursor(epoch);
  }

  /* How an edge looks at this epoch, and what is to be read of it. */
  function look([from, to], e) {
    const p = run.p[e][epoch], cost = run.cost[e][epoch];
    const name = isNaN(p) ? "diverged" : arm.operations[run.operation[e][epoch]];
    const none = isNaN(p) || name === "none";
    const tint = none ? nothing : operationColour(name);
    const text = `edge ${title({ from, to })}: ${name}, p ${p}, p(none) ${run.none[e][epoch]}, `
      + "mean cost " + (isNaN(cost) ? "unknown" : `${(1000 * cost).toFixed(1)} millinat`);
    return {
      from, to, name, none, text, width: none ? 1.5 : 1 + 8 * p,
      tint: byCost() ? (isNaN(cost) ? nothing : costColour(cost)) : tint,
    };
  }

  /* The line of one edge on the time line stands out; without a name, all are alike. */
  function mark(name) {
    time.selectAll(".curve, .name")
      .classed("marked", (one) => Boolean(name) && one?.name === name)
      .classed("faded", (one) => Boolean(name && one?.name) && one.name !== name);
  }

  function drawLegend() {
    const most = d3.format(".2~r")(1000 * d3.max(costColour.domain()));
    const gradient = `linear-gradient(90deg, ${scale})`;
    const swatch = (name) =>
      `<span><i style="background:${operationColour(name)}"></i>${name}</span>`;
    legend.html(byCost()
      ? `<span>earns ≥ ${most}</span><i class="bar" style="background:${gradient}"></i>`
        + `<span>costs ≥ ${most} millinat</span>`
      : operationColour.domain().map(swatch).join("") + '<span><i class="dashes"></i>none</span>');
  }

  /* Moving: by slider, keys and time line, or by itself until it is stopped. */

  function goTo(wanted) {
    pause();
    epoch = Math.max(0, Math.min(last(), wanted));
    show();
  }

  function play() {
    const start = epoch < last() ? epoch : 0;
    button.text("❚❚").attr("aria-label", "Pause");
    timer = d3.timer((milliseconds) => {
      epoch = Math.min(last(), start + Math.floor((milliseconds / 1000 / SECONDS) * last()));
      show();
      if (epoch === last()) pause();
    });
  }

  function pause() {
    timer?.stop();
    timer = null;
    button.text("▶").attr("aria-label", "Play").property("hidden", reduced.matches);
  }

  const toggle = () => (timer || reduced.matches ? pause() : play());

  root.on("keydown", (event) => {
    const on = event.target.tagName;
    if (on === "SELECT" || event.ctrlKey || event.altKey || event.metaKey) return;
    const keys = { ArrowRight: epoch + 1, ArrowUp: epoch + 1, ArrowLeft: epoch - 1,
      ArrowDown: epoch - 1, Home: 0, End: last() };
    if (event.key === " " && on !== "BUTTON") toggle();
    else if (event.key in keys) goTo(keys[event.key]);
    else return;
    event.preventDefault();
  });
  slider.on("input", () => goTo(+slider.property("value")));
  button.on("click", toggle);
  armMenu.on("change", () => chooseArm(armMenu.property("selectedIndex")));
  seedMenu.on("change", () => chooseRun(seedMenu.property("selectedIndex")));
  colourMenu.on("change", draw);
  reduced.addEventListener("change", pause);
  fill(armMenu, arms.map((one) => one.name));
  d3.select(armMenu.node().parentNode).property("hidden", arms.length === 1);
  chooseArm(0);
  new ResizeObserver(() => element.clientWidth !== width && draw()).observe(element);
}

/* The cell: input nodes on the left, the output on the right, as in the book's figures. */
function drawCell(svg, arm, edges, width, mark, colours) {
  const out = arm.inputs + arm.nodes, radius = 13;
  const height = Math.max(210, Math.min(320, 0.5 * width));
  const kind = (node) => (node < arm.inputs ? "input" : node === out ? "output" : "inner");
  function at(node) {
    const n = node - arm.inputs, [x, y] = {
      input: [0, arm.inputs === 1 ? 0 : node === 0 ? 0.36 : -0.36],
      inner: [n + 1, n % 2 ? 0.22 : -0.22],
      output: [n + 1, 0],
    }[kind(node)];
    return [24 + (x / (arm.nodes + 1)) * (width - 48), height * (0.5 + y)];
  }

  /* An edge bends away from the nodes that it passes. */
  function shape({ from, to, width: thickness }) {
    const [x0, y0] = at(from), [x1, y1] = at(to);
    const passed = d3.range(Math.max(from + 1, arm.inputs), to).map(at);
    const below = d3.mean(passed, ([x, y]) => y0 + ((x - x0) / (x1 - x0)) * (y1 - y0) - y) ?? 0;
    const bend = Math.sign(below) * passed.length * 0.1 * height;
    const [cx, cy] = [(x0 + x1) / 2, (y0 + y1) / 2 + bend]; // control point of the curve
    const length = Math.hypot(x1 - cx, y1 - cy);
    const [ux, uy] = [(x1 - cx) / length, (y1 - cy) / length]; // direction of its end
    const head = 5 + 1.1 * thickness, half = 2.5 + 0.75 * thickness; // of the arrow
    const [tx, ty] = [x1 - ux * (radius + 1), y1 - uy * (radius + 1)]; // its tip
    const [bx, by] = [tx - ux * head, ty - uy * head]; // and its base
    return {
      line: `M${x0},${y0}Q${cx},${cy} ${bx},${by}`,
      head: [tx, ty, bx - uy * half, by + ux * half, bx + uy * half, by - ux * half],
      middle: [0.27 * x0 + 0.5 * cx + 0.23 * x1, 0.27 * y0 + 0.5 * cy + 0.23 * y1],
    };
  }

  const fixed = { fixed: true, to: out, tint: colours.output, width: 1.5, text: "to the output" };
  const all = [...arm.outputs.map((from) => ({ ...fixed, from })), ...edges];
  svg.attr("width", width).attr("height", height)
    .attr("aria-label", "The cell. " + edges.map((edge) => edge.text).join("; "));
  const layer = (name) => svg.selectAll(`g.${name}`).data([0]).join("g").attr("class", name);
  const parts = (where, html) => where.join((enter) => enter.append("g").html(html));

  const lines = parts(layer("edges").selectAll("g").data(all),
    '<path/><polygon/><path class="hit"/><title/>');
  lines.attr("class", (edge) => (edge.fixed ? "fixed" : edge.none ? "edge none" : "edge"));
  lines.select("path").attr("d", (edge) => shape(edge).line)
    .style("stroke", (edge) => edge.tint).style("stroke-width", (edge) => edge.width);
  lines.select("polygon").attr("points", (edge) => shape(edge).head)
    .style("fill", (edge) => edge.tint);
  lines.select(".hit").attr("d", (edge) => shape(edge).line);
  lines.on("pointerenter", (_, edge) => mark(edge.fixed ? "" : title(edge)))
    .on("pointerleave", () => mark(""));
  lines.select("title").text((edge) => edge.text);

  const nodes = parts(layer("nodes").selectAll("g").data(d3.range(out + 1)), "<circle/><text/>");
  nodes.attr("class", kind).attr("transform", (node) => `translate(${at(node)})`);
  nodes.select("circle").attr("r", radius).style("fill", (node) => colours[kind(node)]);
  nodes.select("text").attr("dy", "0.35em").text((node) => (node === out ? "out" : node));

  layer("names").selectAll("text").data(edges).join("text").attr("dy", "0.35em")
    .attr("transform", (edge) => `translate(${shape(edge).middle})`)
    .text((edge) => (edge.name === "none" ? "" : edge.name));
}

/* The time line of a search. Returns a function that moves its cursor to an epoch. */
function drawTime(svg, arm, run, width, goTo, colours) {
  const last = run.active.length - 1, left = MARGIN, right = width - MARGIN;
  const x = d3.scaleLinear([0, last], [left, right]);
  const n = { input: 0, inner: 0 };
  const ofEdges = arm.edges.map(([from, to], e) => {
    const kind = from < arm.inputs ? "input" : "inner", dashes = DASHES[n[kind]++ % DASHES.length];
    return { name: title({ from, to }), values: run.none[e], tint: colours[kind], dashes };
  });
  const single = (values) => [{ name: "", values, tint: "currentColor", dashes: "none" }];
  // One scale for all seeds of the arm; what L - H does at the very first may leave the frame.
  const later = arm.runs.flatMap((r) => r.output_cost.slice(Math.max(1, Math.floor(last / 20))));
  const [low, high] = [0.002, 0.998].map((share) => d3.quantile(later, share) ?? 0);
  const panels = [
    { title: "p(none) of every edge", height: Math.max(120, 12 * arm.edges.length),
      domain: [0, 1], lines: ofEdges },
    { title: "L − H [nat] on the examples that α learns from", height: 80,
      domain: [Math.min(0, low), Math.max(0, high)], lines: single(run.output_cost) },
    { title: "active edges", height: 56, domain: [0, arm.edges.length], lines: single(run.active) },
  ];
  const bottom = d3.sum(panels, (panel) => panel.height + 26);

  svg.html("").attr("width", width).attr("height", bottom + 40)
    .attr("aria-label", "Over epochs: p(none) of every edge, L − H, and active edges.");
  svg.append("g").attr("class", "axis").attr("transform", `translate(0,${bottom})`)
    .call(d3.axisBottom(x).ticks(Math.min(8, width / 80, last)));
  const write = (text, style, px, py, anchor = "start") => svg.append("text").text(text)
    .attr("class", style).attr("x", px).attr("y", py).attr("text-anchor", anchor);
  write("epoch", "title", (left + right) / 2, bottom + 34, "middle");

  let top = 0;
  for (const panel of panels) {
    top += 26;
    const y = d3.scaleLinear(panel.domain, [top + panel.height, top]);
    svg.append("g").attr("class", "axis").attr("transform", `translate(${left},0)`)
      .call(d3.axisLeft(y).ticks(3).tickSize(4));
    write(panel.title, "title", left, top - 8);
    svg.append("path").attr("class", "zero").attr("d", `M${left},${y(0)}H${right}`);
    const frame = svg.append("svg").attr("class", "frame") // cuts off what lies outside
      .attr("x", left - 4).attr("width", right - left + 8)
      .attr("y", top - 4).attr("height", panel.height + 8)
      .attr("viewBox", `${left - 4} ${top - 4} ${right - left + 8} ${panel.height + 8}`);
    const line = d3.line((_, epoch) => x(epoch), y).defined((v) => v !== null && !isNaN(v));
    frame.selectAll("path").data(panel.lines).join("path").attr("class", "curve")
      .attr("d", (one) => line(one.values))
      .style("stroke", (one) => one.tint).style("stroke-dasharray", (one) => one.dashes);
    const dots = frame.selectAll("circle").data(panel.lines).join("circle").attr("r", 3.5)
      .style("fill", (one) => one.tint);
    panel.move = (epoch) =>
      dots.attr("cx", x(epoch)).attr("cy", (one) => y(one.values[epoch] ?? NaN) || -9);
    let above = Infinity; // each name behind its line's end, apart from the next one
    const end = (one) => y(one.values[last]) || y(0);
    for (const one of d3.sort(panel.lines, (one) => -end(one))) {
      above = Math.min(end(one), above - 12);
      write(one.name, "name", right + 6, above + 4).datum(one).style("--tint", one.tint);
    }
    top += panel.height;
  }

  const cursor = svg.append("path").attr("class", "cursor");
  const pick = (event) => goTo(Math.round(x.invert(d3.pointer(event, svg.node())[0])));
  svg.append("rect").attr("class", "surface").attr("width", width).attr("height", bottom + 10)
    .on("pointerdown", function (event) {
      this.setPointerCapture(event.pointerId);
      pick(event);
    })
    .on("pointermove", (event) => event.buttons && pick(event));
  return (epoch) => {
    cursor.attr("d", `M${x(epoch)},12V${bottom}`);
    panels.forEach((panel) => panel.move(epoch));
  };
}

/* What a text holds: JSON, compressed, in base 64. */
function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

unpack(NASCORE_EXPLORERS).then(({ colours, explorers }) =>
  document.querySelectorAll(".nascore_explorer")
    .forEach((element, n) => explore(element, explorers[n], colours)));
