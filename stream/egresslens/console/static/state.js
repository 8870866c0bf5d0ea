// What is looked at, kept in the address and nowhere else: shareable, survives a reload, back and forward work.

const RANGE = ["since", "from", "until"];
const FILTERS = ["cluster", "namespace", "workload", "host"];
const DEFAULTS = { view: "graph", since: "24h", measure: "requests", live: "on" };

/** The state as the address has it: parameter → text; absent ones are undefined, defaulted ones are filled in. */
export function read() {
  const given = Object.fromEntries([...new URLSearchParams(location.search)].filter(([, value]) => value !== ""));
  const state = { ...DEFAULTS, ...given };
  if (given.from) delete state.since;
  return state;
}

/** The address of the present state with changes; `undefined` removes a parameter. */
export function address(changes, base = read()) {
  const state = { ...base, ...changes };
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (value !== undefined && value !== "" && value !== DEFAULTS[name]) query.set(name, value);
  }
  const text = query.toString();
  return text ? `?${text}` : location.pathname;
}

/** Address of another view: range and filters stay, what belongs to the view goes. */
export function viewAddress(view) {
  const state = read();
  const kept = Object.fromEntries([...RANGE, ...FILTERS, "live"].map((name) => [name, state[name]]));
  return address({ view }, kept);
}

/** Go to a changed state. `quietly` replaces the entry in the history, for changes that nobody goes back to. */
export function go(changes, { quietly = false } = {}) {
  const target = address(changes);
  if (target === (location.search || location.pathname)) return; // Enter and leaving a field say the same twice
  history[quietly ? "replaceState" : "pushState"](null, "", target);
  dispatchEvent(new Event("statechange"));
}

/** The range's parameters for the API. */
export function range(state = read()) {
  return state.from ? { from: state.from, until: state.until } : { since: state.since, until: state.until };
}

/** The filters' parameters for the API. */
export function filters(state = read()) {
  return Object.fromEntries(FILTERS.map((name) => [name, state[name]]));
}
