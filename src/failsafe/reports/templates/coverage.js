"use strict";
/* Filters and sorting of the cells. The address keeps the filters. Without scripts every cell is shown. */

const byId = (id) => document.getElementById(id);
const body = document.querySelector("#table tbody"), rows = [...body.rows];
const selects = [...document.querySelectorAll("#bar select")];

function update() {
  let shown = 0;
  for (const row of rows) {
    row.hidden = selects.some((select) => select.value && row.dataset[select.dataset.key] !== select.value);
    shown += !row.hidden;
  }
  byId("count").textContent = shown === rows.length ? `${shown} cells` : `${shown} of ${rows.length} cells`;
  byId("nothing").hidden = shown > 0;
  const chosen = new URLSearchParams();
  for (const select of selects) if (select.value) chosen.set(select.dataset.key, select.value);
  history.replaceState(null, "", chosen.size ? `#${chosen}` : location.pathname);
}

function choose(values) {
  for (const select of selects) {
    select.value = values[select.dataset.key] || "";
    if (select.selectedIndex < 0) select.value = "";
  }
  update();
}

function readAddress() {
  choose(Object.fromEntries(new URLSearchParams(location.hash.slice(1))));
}

function sortBy(button) {
  const column = button.closest("th").cellIndex, descending = button.getAttribute("aria-sort") === "ascending";
  for (const other of document.querySelectorAll(".sort")) other.removeAttribute("aria-sort");
  button.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => key(a).localeCompare(key(b), "en", { numeric: true });
  rows.sort((a, b) => (descending ? compare(b, a) : compare(a, b)));
  body.replaceChildren(...rows);
}

for (const select of selects) select.addEventListener("change", update);
for (const button of document.querySelectorAll(".sort")) button.addEventListener("click", () => sortBy(button));
for (const button of document.querySelectorAll(".heat button")) {
  button.addEventListener("click", () => { choose(button.dataset); byId("cells").scrollIntoView(); });
}
byId("bar").addEventListener("submit", (event) => event.preventDefault());
byId("clear").addEventListener("click", (event) => { event.preventDefault(); choose({}); });
window.addEventListener("hashchange", readAddress);
if (location.hash.includes("=")) readAddress();
