"use strict";
// What every page that shows fronts has in common: its charts, and buttons that copy the code beside them.
const shared = (() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  // Plotly reads a little markup in texts: names must not be taken for it.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const lines = ([name, ...more]) => [...(name ? ["<b>" + plain(name) + "</b>"] : []), ...more.map(plain)].join("<br>");
  function painted(trace) {
    const copy = structuredClone(trace), ink = colour(copy.meta.colour);
    if (copy.meta.hover) copy.hovertext = copy.meta.hover.map(lines);
    if (copy.text) copy.text = copy.text.map(plain);
    if (copy.name) copy.name = plain(copy.name);
    copy.marker = { ...copy.marker, color: ink, line: { ...(copy.marker || {}).line, color: ink } };
    if (copy.line) copy.line.color = ink;
    if (copy.error_y) copy.error_y.color = ink;
    if (copy.textfont) copy.textfont.color = ink;
    return copy;
  }
  // Draws a chart: its traces, its layout, and notes at its bottom edge. A drag on a narrow one scrolls the page.
  function draw(chart, { traces, layout, below = [], fixed = false }) {
    const narrow = chart.clientWidth < 560;
    const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), fixedrange: fixed || narrow };
    const dressed = {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, color: colour("ink"), size: narrow ? 12 : 13 },
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") }, align: "left" },
      xaxis: { ...layout.xaxis, ...axis }, yaxis: { ...layout.yaxis, ...axis },
      annotations: below.map((at) => ({ ...at, text: plain(at.text), xanchor: "left", xshift: -7, yanchor: "bottom", showarrow: false, font: { color: colour("preset") } })),
    };
    return Plotly.react(chart, traces.map(painted), dressed, { responsive: true, displayModeBar: false });
  }
  function copy(button) {
    const code = button.closest(".code").querySelector("pre"), label = button.textContent;
    const done = () => { button.textContent = "Copied"; setTimeout(() => { button.textContent = label; }, 1500); };
    if (navigator.clipboard) return void navigator.clipboard.writeText(code.textContent).then(done);
    // A page opened from a file may have no clipboard: select the text, so that one key stroke copies it.
    getSelection().selectAllChildren(code);
  }
  return { draw, copy };
})();
