// The theme's button: as the system has it, light, dark. What was chosen is kept where the browser lets a file keep it.
const THEMES = ["", "light", "dark"];
const NAMES = { "": "as the system", light: "light", dark: "dark" };

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme-name").textContent = NAMES[theme];
}

function startTheme() {
  const button = document.getElementById("theme");
  let theme = "";
  try { theme = localStorage.getItem("matchkit-theme") ?? ""; } catch { /* a file may not have storage */ }
  if (!THEMES.includes(theme)) theme = "";
  setTheme(theme);
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    setTheme(theme);
    try { localStorage.setItem("matchkit-theme", theme); } catch { /* as above */ }
  });
}

startTheme();
