// The pictures of a banner take turns, unless somebody is at it or wants nothing to move. Without this they are moved by hand.
if (!window.matchMedia("(prefers-reduced-motion: reduce)").matches) {
  for (const banner of document.querySelectorAll(".banner[data-seconds]")) {
    setInterval(() => {
      if (banner.matches(":hover, :focus-within") || document.hidden) return;
      const next = Math.round(banner.scrollLeft / banner.clientWidth) + 1;
      banner.scrollTo({ left: (next % banner.children.length) * banner.clientWidth, behavior: "smooth" });
    }, banner.dataset.seconds * 1000);
  }
}
