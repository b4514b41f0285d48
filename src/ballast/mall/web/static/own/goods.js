// Conveniences of the pages about goods; all of them work without.
for (const all of document.querySelectorAll("[data-check-all]")) {
  const boxes = all.form.querySelectorAll(`input[name="${all.dataset.checkAll}"]`);
  all.hidden = boxes.length === 0;
  all.addEventListener("change", () => boxes.forEach((box) => { box.checked = all.checked; }));
}
// What is typed into the first line goes into all lines of a table.
for (const line of document.querySelectorAll("[data-fill]")) {
  line.hidden = false;
  for (const field of line.querySelectorAll("[data-fills]")) {
    field.addEventListener("input", () => {
      for (const other of field.closest("form").querySelectorAll(`input[name="${field.dataset.fills}"]`)) other.value = field.value;
    });
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
  }
}
for (const list of document.querySelectorAll("[data-sortable]")) {
  const save = list.closest("form").querySelector("[data-sorted]");
  Sortable.create(list, { animation: 150, onUpdate: () => { save.hidden = false; } });
}
