// Conveniences of the admins; every page works without them.
document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRFToken"] = document.querySelector('meta[name="csrf-token"]').content;
});
// A table that scrolls sideways can be reached by the keyboard, also where nothing in it can.
for (const box of document.querySelectorAll(".table-responsive")) {
  if (box.scrollWidth > box.clientWidth && !box.querySelector("a[href], button, input, select")) box.tabIndex = 0;
}
// An open account menu closes by a click elsewhere or by Escape.
for (const menu of document.querySelectorAll(".account-menu")) {
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus(); }
  });
}
// A form that asks before it is sent says what in data-ask.
document.addEventListener("submit", (event) => {
  const ask = event.target.dataset.ask;
  if (ask && !window.confirm(ask)) event.preventDefault();
});
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const field = document.getElementById(button.dataset.copy);
    field.select();
    try { await navigator.clipboard.writeText(field.value); button.textContent = button.dataset.done; } catch { /* it is selected */ }
  });
}
// <div class="chart" data-chart='{"labels": [], "bars": {"label", "values"}, "line": {"label", "values"}}'><canvas>
for (const box of document.querySelectorAll("[data-chart]")) {
  const { labels, bars, line } = JSON.parse(box.dataset.chart);
  new Chart(box.querySelector("canvas"), {
    data: {
      labels,
      datasets: [
        { type: "line", label: line.label, data: line.values, yAxisID: "y1", borderColor: "#f59f00", backgroundColor: "#f59f00", cubicInterpolationMode: "monotone", pointRadius: 2 },
        { type: "bar", label: bars.label, data: bars.values, yAxisID: "y", backgroundColor: "#066fd1" },
      ],
    },
    options: {
      maintainAspectRatio: false, animation: false, interaction: { mode: "index", intersect: false },
      scales: {
        y: { beginAtZero: true, title: { display: true, text: bars.label } },
        y1: { beginAtZero: true, position: "right", grid: { drawOnChartArea: false }, ticks: { precision: 0 }, title: { display: true, text: line.label } },
      },
    },
  });
}
