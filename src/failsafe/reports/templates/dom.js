"use strict";
/* Helpers shared by the scripts of several pages. */

/** An element with attributes and children; strings become text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const spoken = (name) => name.replaceAll("_", " ");
