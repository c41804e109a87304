// Tables that sort by a button in each column's head, and rows that single out their method in the charts.
function sortRows(table, column, kind, direction) {
  const body = table.tBodies[0];
  const value = (row) => {
    const told = row.cells[column].dataset.value ?? "";
    if (kind === "text") return told;
    return told === "" ? -Infinity : Number(told);
  };
  const order = (a, b) => (kind === "text" ? value(a).localeCompare(value(b)) : value(a) - value(b));
  body.append(...[...body.rows].sort((a, b) => (direction === "ascending" ? order(a, b) : order(b, a))));
}

function startSorting(table) {
  const heads = [...table.tHead.rows[0].cells];
  for (const [column, head] of heads.entries()) {
    if (head.classList.contains("plain")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const kind = head.dataset.kind ?? "number";
    button.addEventListener("click", () => {
      const first = kind === "text" ? "ascending" : "descending";
      const other = kind === "text" ? "descending" : "ascending";
      const direction = head.getAttribute("aria-sort") === first ? other : first;
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction);
      sortRows(table, column, kind, direction);
    });
  }
}

function startSinglingOut(table) {
  const light = (number, on) => {
    for (const element of document.querySelectorAll(`[data-method="${number}"]`)) element.classList.toggle("lit", on);
  };
  for (const row of table.tBodies[0].rows) {
    row.tabIndex = 0;
    for (const name of ["pointerenter", "focusin"]) row.addEventListener(name, () => light(row.dataset.method, true));
    for (const name of ["pointerleave", "focusout"]) row.addEventListener(name, () => light(row.dataset.method, false));
  }
}

document.querySelectorAll("table.sortable").forEach(startSorting);
document.querySelectorAll("table.lit-rows").forEach(startSinglingOut);
