"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  document.documentElement.classList.add("js");

  // One selected point: its card, its table row and its ring in the chart.
  let selected = null;
  function select(key) {
    const card = document.getElementById("card-" + key);
    if (!card) return;
    selected = key;
    all("#details > article").forEach((a) => a.classList.toggle("shown", a === card));
    all("tr[data-key]").forEach((r) => r.classList.toggle("shown", r.dataset.key === key));
    ring();
  }

  const chart = document.getElementById("chart"), growth = document.getElementById("growth");
  const draw = () => shared.draw(chart, { ...data, traces: [...data.traces, data.ring] }).then(ring);
  const drawGrowth = () => growth && shared.draw(growth, data.growth);
  function ring() {
    if (!chart.data || selected === null) return;
    const at = data.places[selected];
    Plotly.restyle(chart, { x: [[at[0]]], y: [[at[1]]] }, [chart.data.length - 1]);
  }
  draw().then(() => {
    chart.on("plotly_click", (event) => {
      const hit = event.points.find((p) => p.customdata && data.places[p.customdata]);
      if (hit) select(hit.customdata);
    });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { draw(); drawGrowth(); });
  drawGrowth();
  document.getElementById("chart-note").textContent = data.note + " Click a point for its schedule.";

  // The table: sort by a column, keep the rows that match.
  const table = document.getElementById("points"), body = table.tBodies[0];
  all("thead button", table).forEach((button) => {
    const head = button.closest("th"), column = head.cellIndex;
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      all("thead th", table).forEach((th) => th.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.value;
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const less = column === 0 ? x.localeCompare(y, "en", { numeric: true }) : Number(x) - Number(y);
        return up ? less : -less;
      };
      body.append(...[...body.rows].sort(order));
    });
  });
  const box = (name) => document.getElementById("filter-" + name);
  function filter() {
    const words = box("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [drop, flops] = [box("drop").value, box("flops").value];
    let shown = 0;
    for (const row of body.rows) {
      const fits = box(row.dataset.kind).checked
        && words.every((w) => row.dataset.search.includes(w))
        && (drop === "" || (row.dataset.drop !== "" && Number(row.dataset.drop) * 100 <= Number(drop) + 1e-9))
        && (flops === "" || Number(row.dataset.flops) * 100 <= Number(flops) + 1e-9);
      row.hidden = !fits;
      shown += fits;
    }
    document.getElementById("shown").textContent = shown + " of " + body.rows.length + " shown";
  }
  all(".filters input").forEach((input) => input.addEventListener("input", filter));
  filter();

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-copy], button[data-schedule]");
    if (button) return void act(button);
    const row = event.target.closest("tr[data-key]");
    if (row && !event.target.closest("thead")) {
      select(row.dataset.key);
      if (row.closest("#points")) document.getElementById("details").scrollIntoView({ block: "nearest" });
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("tr[data-key]")) select(event.target.dataset.key);
  });
  function act(button) {
    if (button.dataset.schedule) {
      const text = JSON.stringify(data.schedules[button.dataset.schedule], null, 1) + "\n";
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
      link.download = "schedule.json";
      link.click();
      URL.revokeObjectURL(link.href);
      return;
    }
    shared.copy(button);
  }
  select(data.start);
})();
