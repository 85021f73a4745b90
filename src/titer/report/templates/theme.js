(function () {
  var root = document.documentElement, button = document.querySelector("button.theme");
  var kinds = ["auto", "light", "dark"], at = 0;
  button.hidden = false;
  button.addEventListener("click", function () {
    at = (at + 1) % kinds.length;
    if (at) { root.setAttribute("data-theme", kinds[at]); } else { root.removeAttribute("data-theme"); }
    button.textContent = "Theme: " + kinds[at];
  });
})();
(function () {
  function key(cell) {
    var raw = cell.getAttribute("data-value"), text = raw === null ? cell.textContent.trim() : raw;
    var number = text === "" ? NaN : Number(text);
    return isNaN(number) ? text : number;
  }
  function compare(a, b, sign) {
    var blankA = a === "" || a === "—", blankB = b === "" || b === "—";
    if (blankA || blankB) { return blankA - blankB; }
    if (typeof a === "number" && typeof b === "number") { return sign * (a - b); }
    return sign * String(a).localeCompare(String(b));
  }
  document.querySelectorAll("table.sortable").forEach(function (table) {
    var body = table.tBodies[0], heads = table.tHead.rows[table.tHead.rows.length - 1].cells;
    Array.prototype.forEach.call(heads, function (head, column) {
      var button = document.createElement("button");
      button.className = "sort"; button.type = "button";
      if (head.querySelector("button")) { button.setAttribute("aria-label", "sort"); head.appendChild(button); }
      else { while (head.firstChild) { button.appendChild(head.firstChild); } head.appendChild(button); }
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", function () {
        var up = head.getAttribute("aria-sort") !== "ascending", groups = [];
        Array.prototype.forEach.call(heads, function (other) { other.setAttribute("aria-sort", "none"); });
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        Array.prototype.forEach.call(body.rows, function (row) {
          if (row.classList.contains("flags")) { groups[groups.length - 1].rows.push(row); }
          else { groups.push({ key: key(row.cells[column]), rows: [row] }); }
        });
        groups.sort(function (a, b) { return compare(a.key, b.key, up ? 1 : -1); });
        groups.forEach(function (group) { group.rows.forEach(function (row) { body.appendChild(row); }); });
      });
    });
  });
})();
