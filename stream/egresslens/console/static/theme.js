// Before anything is drawn, so that a chosen theme does not flash. Not a module: modules wait for the document.
try {
  const theme = localStorage.getItem("egresslens.theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is refused: the system's preference holds.
}
