// What htmx does not do by itself: pausing, and saying that an answer did not come.
// Without any of this the pages can be read all the same.
(() => {
  "use strict";
  const control = document.querySelector("[data-live]");
  if (!control) return;
  const box = control.querySelector("input");
  const stale = document.querySelector("[data-stale]");
  control.hidden = false;

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (!box.checked || document.hidden) event.preventDefault();
  });
  // A line that is being selected, or a link with the focus of the keyboard, stays where it is.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const selected = document.getSelection();
    if (selected && !selected.isCollapsed) event.detail.shouldSwap = false;
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    stale.hidden = event.detail.successful;
  });
})();
