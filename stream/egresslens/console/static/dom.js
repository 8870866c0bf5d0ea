// Elements from values. Text becomes text nodes and nothing else: what a log says is never markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; see `build`. */
export const h = (tag, given, ...children) => build(document.createElement(tag), given, children);

/** An SVG element; see `build`. */
export const svg = (tag, given, ...children) => build(document.createElementNS(SVG, tag), given, children);

/**
 * Set attributes and append children. `on…` are listeners, `style` is an object of CSS properties (set through
 * the CSSOM, which a strict policy allows), null and false leave an attribute out. Children are nodes, texts,
 * numbers or lists of them.
 */
function build(element, given, children) {
  for (const [name, value] of Object.entries(given ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/**
 * Put new children into an element. What somebody did to the old ones stays: keyboard focus, what was typed, what was
 * unfolded, how far was scrolled.
 */
export function replace(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const done = new Map([...element.querySelectorAll(TOUCHED)].map((one) => [keyOf(one), touched(one)]));
  element.replaceChildren();
  append(element, children);
  for (const one of element.querySelectorAll(TOUCHED)) if (done.has(keyOf(one))) touch(one, done.get(keyOf(one)));
  if (focused?.dataset.key) refocus(element, focused);
}

/** Focus what took the place of an element; a drawing that waits for its width asks again with `null`. */
export function refocus(box, gone) {
  const wanted = gone ?? missing;
  if (!wanted || (document.activeElement && document.activeElement !== document.body)) return;
  const here = box.querySelector(`[data-key="${CSS.escape(wanted.dataset.key)}"]`);
  missing = here ? null : wanted;
  here?.focus({ preventScroll: true });
  if (here?.type === "text" && wanted.type === "text") here.setSelectionRange(wanted.selectionStart, wanted.selectionEnd);
}

let missing = null;

const TOUCHED = "details, .scroll, pre, input";
const keyOf = (one) => `${one.tagName} ${one.dataset.key ?? one.getAttribute("aria-label") ?? one.querySelector("summary")?.textContent}`;
const touched = (one) => ({ open: one.open, left: one.scrollLeft, top: one.scrollTop, value: one.value, given: one.defaultValue });

function touch(one, { open, left, top, value, given }) {
  if (open) one.open = true;
  if (one.defaultValue === given && value !== undefined) one.value = value; // not where the state changed it
  if (left || top) [one.scrollLeft, one.scrollTop] = [left, top];
}
