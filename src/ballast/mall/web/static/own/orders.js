// Conveniences of the list of orders and of the packing slips; both work without them.
for (const all of document.querySelectorAll("[data-choose-all]")) {
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const one of document.querySelectorAll(`input[name="${all.dataset.chooseAll}"]`)) one.checked = all.checked;
  });
}
for (const button of document.querySelectorAll("[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => window.print());
}
