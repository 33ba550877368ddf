"use strict";
(() => {
  document.documentElement.classList.add("js");
  const all = (selector) => [...document.querySelectorAll(selector)];

  // A chart is asked for again as long as its study goes on; what did not change is not drawn again.
  const AGAIN_MS = 3000;
  all("[data-chart]").forEach((place) => {
    let chart = null, tag = "";
    const show = () => chart && chart.traces.length && shared.draw(place, chart);
    async function load() {
      const reply = await fetch(place.dataset.chart, { cache: "no-cache" }).catch(() => null);
      if (reply && reply.ok && (reply.headers.get("ETag") || "new") !== tag) {
        tag = reply.headers.get("ETag") || "";
        chart = await reply.json();
        place.hidden = !chart.traces.length;
        place.closest(".chart").querySelector("[data-note]").textContent = chart.note || "";
        show();
      }
      if (!chart || chart.goes_on) setTimeout(load, AGAIN_MS);
    }
    load();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-copy]");
    if (button) shared.copy(button);
  });

  // Another budget begins with a value of its own kind; before htmx sees the change.
  all("form.take select[name=by]").forEach((select) => select.addEventListener("change", () => {
    select.form.elements.value.value = select.selectedOptions[0].dataset.usual;
  }));

  const offline = document.getElementById("offline");
  document.addEventListener("htmx:error", () => { offline.hidden = false; });
  document.addEventListener("htmx:after:request", (event) => { offline.hidden = event.detail.ctx.response.status < 500; });
})();
