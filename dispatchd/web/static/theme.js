// Light, dark, or as the system has it. Not a module: it runs before anything is painted.

(() => {
  const key = "dispatchd-theme";
  const themes = ["auto", "light", "dark"];
  const read = () => {
    try {
      return localStorage.getItem(key) ?? "auto";
    } catch {
      return "auto"; // a browser that keeps nothing
    }
  };
  const apply = (theme) => {
    document.documentElement.dataset.theme = theme;
  };
  apply(read());
  window.theme = {
    get: read,
    next() {
      const theme = themes[(themes.indexOf(read()) + 1) % themes.length];
      try {
        localStorage.setItem(key, theme);
      } catch {
        // then it holds until the page is loaded again
      }
      apply(theme);
      dispatchEvent(new Event("themechange"));
      return theme;
    },
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themechange")));
})();
