"use strict";
// A search has terms: images of the user, or of the index by their ids, to be like or not.

const AT_ONCE = 4; // thumbnails at a time
const terms = [];
let latest = 0;
let addresses = [];

function shortName(id) {
  return id.split(/[\\/]/).pop() || id;
}

function dataUri(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}

async function body() {
  const files = (wanted) => terms.filter((term) => term.like === wanted && term.file);
  const ids = (wanted) => terms.filter((term) => term.like === wanted && term.id).map((term) => term.id);
  const images = await Promise.all(files(true).map((term) => dataUri(term.file)));
  const not = await Promise.all(files(false).map((term) => dataUri(term.file)));
  const found = { ids: ids(true), not_ids: ids(false), k: Number(byId("count").value) || 24 };
  if (images.length) found.images = images;
  if (not.length) found.not = not;
  return JSON.stringify(found);
}

// ---- the search

async function search() {
  const own = ++latest;
  showTerms();
  if (!terms.some((term) => term.like)) {
    show([], own);
    byId("state").textContent = "";
    return;
  }
  byId("state").textContent = "Searching …";
  const start = performance.now();
  const inside = byId("hits").contains(document.activeElement);
  try {
    const options = { method: "POST", body: await body(), headers: { "Content-Type": "application/json" } };
    const found = await (await request("v1/search", options)).json();
    if (own !== latest) return; // another search has begun
    tell("");
    byId("state").textContent = `${found.results.length} images · ${Math.round(performance.now() - start)} ms`;
    show(found.results, own);
    if (inside) document.querySelector(".by-this").focus({ preventScroll: true }); // what had the focus is gone
  } catch (error) {
    if (own !== latest) return;
    byId("state").textContent = "";
    tell(error.message);
  }
}

function start(term) {
  terms.splice(0, terms.length, term);
  search();
  scrollTo({ top: 0 });
}

function add(term) {
  const same = terms.findIndex((one) => term.id && one.id === term.id);
  if (same >= 0) terms.splice(same, 1);
  terms.push(term);
  search();
}

// ---- what is searched for

function showTerms() {
  for (const [list, like] of [["like", true], ["not", false]]) {
    byId(list).replaceChildren(...terms.filter((term) => term.like === like).map(termItem));
  }
  byId("asked").hidden = byId("clear").hidden = !terms.length;
  byId("not-part").hidden = terms.every((term) => term.like);
}

function termItem(term) {
  const item = byId("term").content.firstElementChild.cloneNode(true);
  const picture = item.querySelector("img");
  picture.alt = term.name;
  if (term.file) picture.src = term.address = term.address || URL.createObjectURL(term.file);
  else if (term.picture) picture.src = term.picture;
  picture.addEventListener("error", () => { picture.hidden = true; });
  const remove = item.querySelector(".remove");
  remove.textContent = "Remove";
  remove.setAttribute("aria-label", `Remove ${term.name}`);
  remove.addEventListener("click", () => {
    terms.splice(terms.indexOf(term), 1);
    search();
    byId("pick").focus();
  });
  return item;
}

// ---- what was found

async function show(results, own) {
  const used = new Set(terms.map((term) => term.picture));
  addresses = addresses.filter((address) => used.has(address) || URL.revokeObjectURL(address));
  const items = results.map(hitItem);
  byId("hits").replaceChildren(...items);
  const left = results.map((hit, index) => [hit, items[index].querySelector("img")]);
  const next = async () => {
    while (left.length && own === latest) await fill(...left.shift());
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
}

async function fill(hit, picture) {
  try {
    picture.src = URL.createObjectURL(await (await request(`v1/search/thumbnail?${new URLSearchParams({ id: hit.id })}`)).blob());
    addresses.push(picture.src);
  } catch {
    picture.closest("button").classList.add("absent");
    picture.closest("button").append("The file is not here.");
    picture.hidden = true;
  }
}

function hitItem(hit) {
  const item = byId("hit").content.firstElementChild.cloneNode(true);
  const name = shortName(hit.id);
  const picture = item.querySelector("img");
  const term = (like) => ({ id: hit.id, name, like, picture: picture.src });
  picture.alt = name;
  item.querySelector(".name").textContent = name;
  item.querySelector(".name").title = hit.id;
  item.querySelector(".value").textContent = hit.similarity.toFixed(3);
  const actions = { ".by-this": () => start(term(true)), ".more": () => add(term(true)), ".less": () => add(term(false)) };
  const words = { ".by-this": "Search by", ".more": "More like", ".less": "Not like" };
  for (const [kind, action] of Object.entries(actions)) {
    item.querySelector(kind).addEventListener("click", action);
    item.querySelector(kind).setAttribute("aria-label", `${words[kind]} ${name}`);
  }
  return item;
}

// ---- the page

async function describe() {
  try {
    const found = await (await request("v1/models")).json();
    tell("");
    const count = found.index.images.toLocaleString("en");
    byId("model-line").textContent = `${count} images, compared by ${found.index.model}. What you drop is answered and forgotten.`;
  } catch (error) {
    tell(error.message);
  }
}

listenForImages((images) => {
  if (!images.length) return;
  terms.splice(0, terms.length, ...images.map((file) => ({ file, name: file.name || "pasted image", like: true })));
  search();
});
byId("settings").addEventListener("submit", (event) => { event.preventDefault(); });
byId("count").addEventListener("change", search);
byId("key").addEventListener("change", () => { describe(); search(); });
byId("clear").addEventListener("click", () => {
  terms.splice(0);
  search();
  byId("pick").focus();
});
describe();
