// Blocks are dragged into another order; without this the buttons do it.
const list = document.getElementById("blocks");
const order = document.getElementById("order");
if (list && order && window.Sortable) {
  for (const handle of list.querySelectorAll(".drag")) handle.hidden = false;
  Sortable.create(list, {
    handle: ".drag", animation: 120,
    onEnd: ({ oldIndex, newIndex }) => {
      if (oldIndex === newIndex) return;
      for (const item of list.children) {
        const field = document.createElement("input");
        field.type = "hidden"; field.name = "block"; field.value = item.dataset.block;
        order.append(field);
      }
      order.submit();
    },
  });
}
// The picture that a row has chosen is shown beside it.
for (const select of document.querySelectorAll("select[data-shows]")) {
  const image = document.getElementById(select.dataset.shows);
  const show = () => { image.hidden = !select.value; if (select.value) image.src = select.value; };
  select.addEventListener("change", show);
}
