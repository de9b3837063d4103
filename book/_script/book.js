/* Tables of class "sorts": a click on a head sorts the rows, a field above filters them. Without
this script they are tables. Long formulas are scrolled by keys, too. */
"use strict";

const letters = new Intl.Collator();
const compare = (a, b) => (isNaN(a) || isNaN(b) ? letters.compare(a, b) : a - b);

function sortAndFilter(table) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], rows = [...body.rows];

  heads.forEach((head, n) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      rows.sort((a, b) => sign * compare(a.cells[n].textContent, b.cells[n].textContent));
      body.append(...rows);
    });
  });

  const label = document.createElement("label"), count = document.createElement("span");
  label.className = "filter";
  label.innerHTML = 'Rows with <input type="search" placeholder="such as: darts bi seed=24">';
  count.setAttribute("role", "status");
  label.append(count);
  table.parentElement.before(label);
  const field = label.querySelector("input");
  const filter = () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  field.addEventListener("input", filter);
  filter();
}

document.querySelectorAll("table.sorts").forEach(sortAndFilter);

addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  for (const formula of document.querySelectorAll("mjx-container[display]"))
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
});
