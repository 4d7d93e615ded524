"""How the pages look and how they draw: one style sheet and one small script, both inlined."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --panel: #f6f7f9; --ink: #1b1f26; --soft: #5a6472; --rule: #dfe3e9;
  --accent: #0072b2; --better: #00664a; --worse: #a94400; --grid: rgba(128,136,150,.22);
}
@media (prefers-color-scheme: dark) {
  :root:not(.printing) {
    --paper: #13161b; --panel: #1b2027; --ink: #e6e9ee; --soft: #9aa5b4; --rule: #303742;
    --accent: #56b4e9; --better: #3fc79a; --worse: #f39a5b; --grid: rgba(150,160,176,.20);
  }
}
* { box-sizing: border-box; }
html { font-size: 16px; -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink); line-height: 1.55;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main, header, nav, footer { max-width: 72rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 3rem; }
.eyebrow { margin: 0 0 .6rem; color: var(--soft); font-size: .85rem; letter-spacing: .02em; }
h1 { margin: 0; font-size: clamp(1.45rem, 3.4vw, 2.1rem); line-height: 1.22; letter-spacing: -.012em;
  font-weight: 650; text-wrap: balance; overflow-wrap: anywhere; }
h2 { margin: 0 0 .75rem; font-size: 1.3rem; font-weight: 640; letter-spacing: -.005em; }
h3 { margin: 1.75rem 0 .4rem; font-size: 1rem; font-weight: 640; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
section { margin: 3rem 0; padding-top: 1.5rem; border-top: 1px solid var(--rule); }
a { color: var(--accent); text-underline-offset: .15em; }
nav { margin-top: 1.75rem; font-size: .875rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: 0; padding: 0; list-style: none; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
.verdict { margin: 1.6rem 0 0; padding: .95rem 1.15rem; background: var(--panel);
  border-left: 4px solid var(--soft); border-radius: 0 4px 4px 0; }
.verdict p { margin: 0; max-width: none; }
.verdict p + p { margin-top: .4rem; }
.verdict .plain { color: var(--soft); font-size: .925rem; }
.verdict.for { border-color: var(--better); }
.verdict.against { border-color: var(--worse); }
.lead { font-size: 1.09rem; }
.facts { display: flex; flex-wrap: wrap; gap: 1px;
  margin: 1.6rem 0 0; background: var(--rule); border: 1px solid var(--rule); border-radius: 4px;
  overflow: hidden; }
.facts div { flex: 1 0 8.2rem; padding: .65rem .8rem; background: var(--paper); }
.facts dt { color: var(--soft); font-size: .78rem; }
.facts dd { margin: .1rem 0 0; font-size: 1rem; font-weight: 600; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { width: 100%; border-collapse: collapse; font-size: .875rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
caption { padding: 0 0 .55rem; color: var(--soft); font-size: .85rem; text-align: left; }
caption span { display: block; position: sticky; left: 0; max-width: min(56rem, calc(100vw - 3rem)); }
th, td { padding: .42rem .65rem; border-bottom: 1px solid var(--rule); text-align: left;
  vertical-align: baseline; }
th:first-child, td:first-child { padding-left: .35rem; }
thead th { color: var(--soft); font-size: .78rem; font-weight: 600; vertical-align: bottom;
  border-bottom: 1.5px solid var(--soft); }
tbody th { font-weight: 500; }
td, tbody th { white-space: nowrap; }
td.wraps, th.wraps { white-space: normal; overflow-wrap: break-word; }
tbody th.wraps { min-width: 8rem; }
.number { text-align: right; }
tr.chosen > * { background: var(--panel); font-weight: 640; }
.soft { color: var(--soft); font-weight: 400; }
.better { color: var(--better); font-weight: 600; white-space: nowrap; }
.worse { color: var(--worse); font-weight: 600; white-space: nowrap; }
.unresolved { color: var(--soft); white-space: nowrap; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: .82rem; }
code { overflow-wrap: anywhere; }
pre { max-height: 30rem; margin: .5rem 0; padding: 1rem 1.1rem; overflow: auto; background: var(--panel);
  border: 1px solid var(--rule); border-radius: 4px; line-height: 1.5; }
figure { min-width: 0; margin: 1.25rem 0 1.75rem; }
figure h3 { margin-top: 0; }
figcaption { max-width: 46rem; color: var(--soft); font-size: .85rem; line-height: 1.45; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr));
  column-gap: 1.5rem; }
.choice { display: inline-flex; align-items: center; gap: .5rem; margin: .1rem 0 .3rem; color: var(--soft);
  font-size: .875rem; max-width: 100%; }
.choice select { max-width: 16rem; padding: .25rem .5rem; color: var(--ink); background: var(--paper);
  font: inherit; border: 1px solid var(--rule); border-radius: 4px; }
.interval { display: inline-block; width: 9rem; height: 1.1rem; color: var(--ink); vertical-align: -.2em; }
ul.notes { max-width: 46rem; margin: .4rem 0; padding-left: 1.15rem; }
ul.notes li { margin: .35rem 0; }
footer { margin-top: 3rem; padding-top: 1rem; padding-bottom: 3rem; color: var(--soft); font-size: .82rem; }
noscript p { padding: .6rem .9rem; background: var(--panel); }
@media (max-width: 640px) {
  main, header, nav, footer { padding-left: 1rem; padding-right: 1rem; }
  header { padding-top: 1.75rem; }
  section { margin: 2.25rem 0; padding-top: 1.25rem; }
}
@media print {
  @page { margin: 14mm; }
  html { font-size: 11.5px; }
  nav, .choice { display: none !important; }
  main, header, footer { max-width: none; padding: 0; }
  section { margin: 1.6rem 0; }
  .pair { display: block; }
  figure, tr, .verdict, .facts { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  pre { max-height: none; white-space: pre-wrap; }
  .scroll { overflow: visible; }
}
"""

SCRIPT: Final = """
(() => {
  "use strict";
  const root = document.documentElement;
  const plots = [...document.querySelectorAll("[data-plot]")];
  const specs = new Map(plots.map((plot) =>
    [plot, JSON.parse(document.getElementById(plot.id + "-data").textContent)]));
  const options = { displayModeBar: false, plotlyServerURL: "", showSendToCloud: false };
  // Where a finger scrolls the page it must not zoom a plot.
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";

  // The plots follow the page's colours, so that they read on light, dark and printed paper.
  const themed = (layout) => {
    const style = getComputedStyle(root);
    const read = (name) => style.getPropertyValue(name).trim();
    const result = { ...layout, dragmode,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: read("--ink") },
      hoverlabel: { bgcolor: read("--panel"), bordercolor: read("--rule"),
        font: { color: read("--ink"), size: 12 } } };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis/.test(key)) {
        result[key] = { ...layout[key], gridcolor: read("--grid"), linecolor: read("--soft"),
          tickcolor: read("--soft"), title: { ...layout[key].title, font: { size: 12.5 } } };
      }
    }
    if (window.innerWidth < 640) {
      result.margin = { ...layout.margin, l: 46, r: 8 };
      result.font.size = 11;
    }
    return result;
  };
  const traces = (plot) => {
    const choice = document.querySelector(`select[data-for="${plot.id}"]`);
    const { data, views } = specs.get(plot);
    if (!choice) return data;
    return data.map((trace, index) => ({ ...trace, visible: views[choice.selectedIndex][index] }));
  };
  const draw = (plot, size) =>
    Plotly.react(plot, traces(plot), { ...themed(specs.get(plot).layout), ...size }, options);
  const drawAll = (size) => plots.forEach((plot) => draw(plot, size));

  drawAll();
  // Containers also change without the window, when a scroll bar appears or paper is narrower.
  const observer = new ResizeObserver((changes) => changes.forEach((change) => {
    if (!root.classList.contains("printing")) Plotly.Plots.resize(change.target);
  }));
  plots.forEach((plot) => observer.observe(plot));
  document.querySelectorAll("select[data-for]").forEach((choice) =>
    choice.addEventListener("change", () => draw(document.getElementById(choice.dataset.for))));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
  window.addEventListener("beforeprint", () => { root.classList.add("printing"); drawAll({ width: 680 }); });
  window.addEventListener("afterprint", () => { root.classList.remove("printing"); drawAll(); });
})();
"""
