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

/** Put new children into an element; keyboard focus stays where it was, by `data-key`. */
export function replace(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  element.replaceChildren();
  append(element, children);
  if (focused) element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}
