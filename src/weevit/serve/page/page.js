"use strict";

const AT_ONCE = 4; // requests at a time; the server's queue is for everybody
const waiting = [];
let running = 0;

function query() {
  const found = new URLSearchParams({ topk: byId("topk").value || "5" });
  if (byId("model").value) found.set("model", byId("model").value);
  return found;
}

function ask(path, image) {
  const body = new FormData();
  body.append("image", image, image.name || "pasted.png");
  return request(path, { method: "POST", body });
}

// ---- one image, one card

function newCard(image) {
  const card = byId("card").content.firstElementChild.cloneNode(true);
  const photo = card.querySelector(".photo");
  photo.src = URL.createObjectURL(image);
  photo.alt = image.name || "pasted image";
  photo.addEventListener("error", () => { photo.hidden = true; });
  card.querySelector("h2").textContent = image.name || "pasted image";
  byId("answers").prepend(card);
  byId("clear").hidden = false;
  return card;
}

function state(card, text, kind = "") {
  const line = card.querySelector(".state");
  line.textContent = text;
  line.className = `state ${kind}`;
}

function bar(name, probability) {
  const line = document.createElement("li");
  const parts = ["name", "value", "track"].map((kind) => {
    const part = document.createElement(kind === "track" ? "div" : "span");
    part.className = kind;
    line.append(part);
    return part;
  });
  const filled = document.createElement("div");
  filled.className = "bar";
  filled.style.width = `${100 * probability}%`;
  parts[0].textContent = name;
  parts[1].textContent = `${(100 * probability).toFixed(1)} %`;
  parts[2].append(filled);
  parts[2].setAttribute("aria-hidden", "true");
  return line;
}

function show(card, row, milliseconds) {
  const size = `${row.width} × ${row.height} px · ${milliseconds} ms`;
  if (row.unknown) state(card, `unknown: no class is likely enough · ${size}`, "unknown");
  else if (row.present) state(card, `${row.present.join(", ") || "none of its labels"} · ${size}`);
  else state(card, size);
  card.querySelector(".bars").append(...row.class_name.map((name, index) => bar(name, row.probability[index])));
  card.querySelector(".actions").hidden = false;
}

async function answer(image, card) {
  state(card, "Looking …");
  const start = performance.now();
  try {
    const found = await (await ask(`v1/classify?${query()}`, image)).json();
    const row = found.results[0];
    show(card, row, Math.round(performance.now() - start));
    actions(card, image, row, found.model);
  } catch (error) {
    state(card, error.message, "bad");
  }
}

function actions(card, image, row, model) {
  const heat = card.querySelector(".heat");
  const photo = card.querySelector(".photo");
  const button = card.querySelector(".show-heat");
  button.addEventListener("click", async () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    try {
      if (on && !heat.src) {
        button.textContent = "Drawing …";
        const path = `v1/explain?${new URLSearchParams({ model })}`;
        heat.src = URL.createObjectURL(await (await ask(path, image)).blob());
        heat.alt = `Heat map: the parts of the image that “${row.class_name[0]}” rests on`;
      }
      button.setAttribute("aria-pressed", String(on));
      heat.hidden = !on;
      photo.hidden = on;
    } catch (error) {
      tell(error.message);
    }
    button.textContent = "Heat map";
  });
  const address = new URL("v1/classify", location.href);
  const name = (image.name || "image.png").replace(/[\\"]/g, "\\$&").replaceAll("'", "'\\''");
  const command = `curl -F 'image=@"${name}"' '${address}?${new URLSearchParams({ topk: row.class_name.length, model })}'`;
  copying(card.querySelector(".copy-json"), JSON.stringify(row, null, 2));
  copying(card.querySelector(".copy-curl"), command);
}

function copying(button, text) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    button.textContent = (await copy(text)) ? "Copied" : "Not copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea"); // a page without https has no clipboard of its own
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

// ---- many images

function add(images) {
  for (const image of images) waiting.push([image, newCard(image)]);
  next();
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    answer(...waiting.shift()).finally(() => { running -= 1; next(); });
  }
}

function listen() {
  listenForImages(add);
  byId("settings").addEventListener("submit", (event) => { event.preventDefault(); models(); });
  byId("key").addEventListener("change", models);
  byId("clear").addEventListener("click", () => {
    for (const image of document.querySelectorAll(".answers img[src]")) URL.revokeObjectURL(image.src);
    waiting.length = 0;
    byId("answers").replaceChildren();
    byId("clear").hidden = true;
    byId("pick").focus();
  });
}

async function models() {
  let body;
  try {
    body = await (await request("v1/models")).json(); // again where the server is still loading them
  } catch (error) {
    tell(error.message);
    return;
  }
  tell("");
  const found = body.data;
  byId("search-link").hidden = !body.index;
  byId("model").replaceChildren(...found.map((one) => new Option(one.id, one.id)));
  byId("model-field").hidden = found.length < 2;
  const line = (one) => `${one.tag} · ${one.classes.toLocaleString("en")} classes`;
  byId("model-line").textContent = `${found.map(line).join(" · ")}. Images are answered and forgotten.`;
}

listen();
models();
