// What the pages do beyond being read: they go on by themselves, and can be used with the keyboard. Without this file they can all be read.
"use strict";

// --- times: the same words as words.py's `ago`
const UNITS = [["s", 1, 60], ["min", 60, 3600], ["h", 3600, 86400], ["d", 86400, 2592000]];

function ago(at) {
  const seconds = (Date.now() - Date.parse(at)) / 1000;
  if (seconds < 1) return "now";
  const unit = UNITS.find(([, , until]) => seconds < until);
  return unit ? `${Math.floor(seconds / unit[1])} ${unit[0]} ago` : at.slice(0, 10);
}

function tellTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    if (/ago$|^now$/.test(time.textContent)) time.textContent = ago(time.dateTime);
  }
}
setInterval(tellTimes, 5000);

// --- live: elements come whole, each with its id, its version and its place in the list
const main = document.querySelector("main[data-live]");
let source = null;

function put(list, element, isFirst) {
  const known = document.getElementById(element.id);
  if (known && known.dataset.v === element.dataset.v) return;
  const box = known && known.querySelector("input[type=checkbox]:checked");
  if (box) element.querySelector("input[type=checkbox]").checked = true;
  if (known && known.dataset.order === element.dataset.order) {
    // In its place, and what was open or had the focus still has.
    const at = [...known.querySelectorAll("a, button, summary")].indexOf(document.activeElement);
    element.classList.toggle("here", known.classList.contains("here"));
    const folds = [...known.querySelectorAll("details")].map((each) => each.open);
    element.querySelectorAll("details").forEach((each, number) => { each.open = folds[number] ?? each.open; });
    known.replaceWith(element);
    if (at >= 0) element.querySelectorAll("a, button, summary")[at]?.focus({ preventScroll: true });
    if (!isFirst && !("calm" in element.dataset)) element.classList.add("new");
    if (globalThis.htmx) htmx.process(element);
    return;
  }
  if (known) known.remove();
  const isUp = list.dataset.list === "up";
  const next = [...list.children].find((each) => (isUp ? each.dataset.order > element.dataset.order : each.dataset.order < element.dataset.order));
  list.insertBefore(element, next || null);
  if (!isFirst && !("calm" in element.dataset)) element.classList.add("new");
  if (globalThis.htmx) htmx.process(element);
}

function take(message, isFirst) {
  const said = JSON.parse(message.data);
  const list = main.querySelector("[data-list]");
  const isAtEnd = window.innerHeight + window.scrollY > document.body.scrollHeight - 160;
  const parsed = new DOMParser().parseFromString(said.html, "text/html");
  for (const element of [...parsed.body.children]) put(list, document.adoptNode(element), isFirst);
  if (said.ids) {
    const ids = new Set(said.ids);
    for (const element of [...list.children]) if (element.id && !ids.has(element.id)) element.remove();
  }
  const max = Number(list.dataset.max || 0);
  while (max && list.children.length > max) (list.dataset.list === "up" ? list.firstElementChild : list.lastElementChild).remove();
  list.hidden = !list.children.length;
  for (const form of main.querySelectorAll("[data-form]")) form.hidden = list.hidden;
  for (const empty of main.querySelectorAll("[data-empty]")) empty.hidden = !list.hidden;
  if ("atEnd" in list.dataset && isAtEnd) window.scrollTo(0, document.body.scrollHeight);
}

function mark(word, isLost) {
  for (const each of document.querySelectorAll("[data-live-mark]")) {
    each.hidden = false;
    each.textContent = word;
    each.classList.toggle("lost", isLost);
  }
}

function listen() {
  if (!main || source) return;
  let isFirst = true;
  source = new EventSource(main.dataset.live);
  source.addEventListener("items", (message) => { take(message, isFirst); isFirst = false; mark("live", false); });
  source.addEventListener("error", () => mark(source && source.readyState === EventSource.CLOSED ? "stopped: load the page again" : "reconnecting", true));
}

function rest() {
  if (source) source.close();
  source = null;
}

// A browser keeps few connections to one place: a page that nobody sees gives its own back.
document.addEventListener("visibilitychange", () => (document.hidden ? rest() : listen()));
window.addEventListener("pagehide", rest);
window.addEventListener("pageshow", listen);

// --- copy, choose all
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling);
    button.textContent = "Press Ctrl-C";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-all]")) return;
  for (const box of event.target.form.querySelectorAll("input[type=checkbox][name=id]")) box.checked = event.target.checked;
});

// --- keys
function rows() { return [...document.querySelectorAll(".rows > li, .turn, tbody tr[data-href]")]; }

function move(step) {
  const all = rows();
  if (!all.length) return;
  const here = all.findIndex((each) => each.classList.contains("here"));
  const next = all[Math.min(all.length - 1, Math.max(0, here + step))];
  for (const each of all) each.classList.toggle("here", each === next);
  const link = next.querySelector("a");
  if (link) link.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function help() {
  let dialog = document.querySelector("dialog.keys");
  if (!dialog) {
    dialog = document.createElement("dialog");
    dialog.className = "keys";
    dialog.innerHTML = "<b>Keys</b><dl><dt><kbd>j</kbd> <kbd>k</kbd></dt><dd>next, previous</dd><dt><kbd>Enter</kbd></dt><dd>open</dd><dt><kbd>/</kbd></dt><dd>search</dd><dt><kbd>g</kbd></dt><dd>back to the list above</dd><dt><kbd>?</kbd></dt><dd>this</dd></dl><form method=dialog><button class=plain>Close</button></form>";
    document.body.append(dialog);
  }
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  const doings = {
    j: () => move(1),
    k: () => move(-1),
    "/": () => { const box = document.querySelector("[data-search]"); if (box) box.focus(); else location.assign("/conversations"); },
    g: () => { const link = document.querySelector("nav a[aria-current]"); if (link) location.assign(link.href); },
    "?": help,
  };
  const doing = doings[event.key];
  if (!doing) return;
  event.preventDefault();
  doing();
});

if (document.querySelector("[data-at-end]") && !location.hash) window.scrollTo(0, document.body.scrollHeight);
listen();
