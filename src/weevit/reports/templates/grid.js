"use strict";
// Names of files come from strangers: they are only ever set as text.

const byId = (id) => document.getElementById(id);
const cells = [...document.querySelectorAll(".cell")];
const chosen = new Set();

// ---- selection

function choose(cell, on) {
  if (on) chosen.add(cell); else chosen.delete(cell);
  cell.setAttribute("aria-selected", String(on));
}

function told() {
  byId("count").textContent = chosen.size.toLocaleString("en");
  byId("chosen").hidden = chosen.size === 0 && byId("spare").hidden;
  for (const id of ["copy", "save", "clear"]) byId(id).hidden = chosen.size === 0;
}

const list = () => cells.filter((cell) => chosen.has(cell)).map((cell) => `${JSON.parse(cell.dataset.name)}\n`).join("");

function toggle(cell) {
  choose(cell, !chosen.has(cell));
  told();
}

// ---- moving: one cell of the page is in the tab order, the one that had the focus last

let current = cells[0];

function go(cell) {
  if (!cell) return;
  current.tabIndex = -1;
  current = cell;
  current.tabIndex = 0;
  current.focus({ preventScroll: true });
  current.scrollIntoView({ block: "nearest" });
}

const middle = (cell) => { const box = cell.getBoundingClientRect(); return box.left + box.width / 2; };

// The nearest cell of the next row with one, up or down: rows are found by where cells are, whatever the width.
function vertical(step) {
  const box = current.getBoundingClientRect();
  const column = middle(current);
  let best = null, line = null;
  for (let at = cells.indexOf(current) + step; cells[at]; at += step) {
    const other = cells[at].getBoundingClientRect();
    if (step * (other.top - box.top) < box.height / 2) continue;
    if (line !== null && Math.abs(other.top - line) > box.height / 2) break;
    line ??= other.top;
    if (!best || Math.abs(middle(cells[at]) - column) < Math.abs(middle(best) - column)) best = cells[at];
  }
  return best;
}

const keys = {
  ArrowRight: () => go(cells[cells.indexOf(current) + 1]),
  ArrowLeft: () => go(cells[cells.indexOf(current) - 1]),
  ArrowDown: () => go(vertical(1)),
  ArrowUp: () => go(vertical(-1)),
  Home: () => go(cells[0]),
  End: () => go(cells[cells.length - 1]),
  " ": () => toggle(current),
  Enter: () => open(current),
};

document.addEventListener("keydown", (event) => {
  const cell = event.target.closest?.(".cell");
  if (!cell || !keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  current = cell;
  keys[event.key]();
});

document.addEventListener("click", (event) => {
  const cell = event.target.closest(".cell");
  if (event.target.matches(".open")) {
    go(event.target.closest(".set").querySelector(".cell"));
    open(current);
  }
  if (!cell) return;
  go(cell);
  toggle(cell);
});

document.addEventListener("dblclick", (event) => {
  const cell = event.target.closest(".cell");
  if (cell) open(cell);
});

// ---- side by side

function open(cell) {
  const group = [...cell.closest(".set").querySelectorAll(".cell")];
  const at = group.indexOf(cell);
  const first = group.length > 12 ? Math.max(0, Math.min(at - 1, group.length - 12)) : 0;
  const shown = group.slice(first, first + 12).map((own) => ({ own, facts: JSON.parse(own.dataset.facts) }));
  byId("images").replaceChildren(...shown.map(({ own, facts }) => figure(own, facts, shown)));
  byId("beside").showModal();
}

function figure(cell, facts, shown) {
  const made = byId("one").content.firstElementChild.cloneNode(true);
  const image = made.querySelector("img"), thumb = cell.querySelector("img");
  if (thumb) { image.src = thumb.src; image.alt = thumb.alt; } else image.remove();
  const button = made.querySelector("button");
  const press = () => button.setAttribute("aria-pressed", String(chosen.has(cell)));
  button.addEventListener("click", () => { toggle(cell); press(); });
  press();
  made.querySelector("strong").append(name(cell));
  for (const [key, value] of facts) {
    const term = document.createElement("dt"), fact = document.createElement("dd");
    term.textContent = key;
    fact.textContent = value;
    const others = shown.map((one) => one.facts.find(([other]) => other === key)?.[1]);
    fact.classList.toggle("differs", others.some((other) => other !== value));
    made.querySelector("dl").append(term, fact);
  }
  return made;
}

function name(cell) {
  if (!cell.dataset.href) return cell.getAttribute("aria-label");
  const link = document.createElement("a");
  link.href = cell.dataset.href;
  link.target = "_blank";
  link.rel = "noreferrer";
  link.textContent = cell.getAttribute("aria-label");
  return link;
}

byId("beside").addEventListener("close", () => go(current));

// ---- the list

byId("copy").addEventListener("click", async () => {
  const text = list();
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a file is no secure context in some browsers
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  byId("copy").textContent = "Copied";
  setTimeout(() => { byId("copy").textContent = "Copy the list"; }, 1500);
});

byId("save").addEventListener("click", () => {
  URL.revokeObjectURL(byId("save").href);
  byId("save").href = URL.createObjectURL(new Blob([list()], { type: "text/plain" }));
});

byId("clear").addEventListener("click", () => {
  for (const cell of [...chosen]) choose(cell, false);
  told();
  go(current);
});

byId("spare").hidden = !document.querySelector("[data-spare]");
byId("spare").addEventListener("click", () => {
  for (const cell of document.querySelectorAll("[data-spare]")) choose(cell, true);
  told();
});

if (current) current.tabIndex = 0;
told();
