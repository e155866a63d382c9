"use strict";
// Shared by the pages. Names of files, classes and images come from strangers: they are only ever set as text.

const byId = (id) => document.getElementById(id);

function headers() {
  const key = byId("key").value;
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function tell(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

// The answer to a request; asks for a key where one is needed, and again later where the server is busy.
async function request(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { ...options.headers, ...headers() } });
  if (answer.ok) return answer;
  if (answer.status === 401) {
    byId("key-field").hidden = false;
    byId("key").focus();
  }
  const retry = Number(answer.headers.get("Retry-After"));
  if (answer.status === 503 && retry) {
    await new Promise((done) => setTimeout(done, 1000 * Math.min(retry, 10)));
    return request(path, options);
  }
  const problem = await answer.json().catch(() => ({ detail: `The server answered ${answer.status}.` }));
  throw new Error(problem.detail);
}

// Calls `add` with the images that are chosen, photographed, dropped or pasted.
function listenForImages(add) {
  const drop = byId("drop");
  const given = (files) => {
    const images = [...files].filter((file) => file.type.startsWith("image/") || !file.type);
    tell(images.length || !files.length ? "" : "These files are no images.");
    add(images);
  };
  for (const id of ["pick", "shoot"]) {
    byId(id).addEventListener("change", (event) => { given(event.target.files); event.target.value = ""; });
  }
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) {
    document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("over"); });
  }
  document.addEventListener("drop", (event) => given(event.dataTransfer.files));
  document.addEventListener("paste", (event) => given(event.clipboardData.files));
}
