// Elements of a page: made with text, changed only where the text differs.

/** Set the text of an element, if it has another one. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Append an element, perhaps with a class and a text. */
export function make(parent, tag, className = "", text = "") {
  const element = parent.appendChild(document.createElement(tag));
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}
