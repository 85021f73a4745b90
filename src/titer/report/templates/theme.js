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
