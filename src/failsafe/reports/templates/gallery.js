"use strict";
/* The page: filters, a list that grows while scrolling, keys. The address keeps the filters. */

const BATCH = 24;
const byId = (id) => document.getElementById(id);
const all = window.FAILSAFE.cases.map((data) => ({
  data,
  card: null,
  values: {
    task: [data.task],
    mode: [...new Set(data.causes.map((c) => c.mode))],
    stage: [...new Set(data.causes.map((c) => c.stage))],
    category: [data.category],
  },
  text: [data.id, data.task, `seed ${data.seed}`, data.instruction, data.reason, window.FAILSAFE.categories[data.category],
    ...data.causes.flatMap((c) => [c.mode, c.description]), ...data.labels.map((l) => l.stage)].join(" ").toLowerCase(),
}));
const selects = [...document.querySelectorAll("#bar select[data-key]")];
const search = byId("search"), list = byId("cards"), more = byId("more");
let fitting = all, grown = 0;

const watcher = new IntersectionObserver((entries) => {
  for (const { target: { card }, isIntersecting } of entries) {
    if (isIntersecting) {
      card.fill();
      if (!card.player.visible) { card.player.show(); if (playingAll()) card.setPlaying(true); }
    } else if (card.player && card.player.visible) card.player.hide();
  }
}, { rootMargin: "200px" });
new IntersectionObserver((entries) => { if (entries.some((e) => e.isIntersecting)) grow(); }, { rootMargin: "1200px" }).observe(more);

function fits(item, except) {
  const terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  return terms.every((term) => item.text.includes(term))
    && selects.every((s) => s === except || !s.value || item.values[s.dataset.key].includes(s.value));
}

/** Fill each filter with its values and the number of cases each would leave, given the other filters. */
function fillSelects() {
  for (const select of selects) {
    const { key } = select.dataset, chosen = select.value, counts = new Map();
    for (const item of all) for (const value of item.values[key]) counts.set(value, counts.get(value) || 0);
    const others = all.filter((item) => fits(item, select));
    for (const item of others) for (const value of item.values[key]) counts.set(value, counts.get(value) + 1);
    const order = key === "category" ? Object.keys(window.FAILSAFE.categories).filter((v) => counts.has(v)) : [...counts.keys()].sort();
    const named = (value) => (key === "category" ? window.FAILSAFE.categories[value] : key === "mode" ? spoken(value) : value);
    select.replaceChildren(make("option", { value: "" }, `all (${others.length})`),
      ...order.map((value) => make("option", { value }, `${named(value)} (${counts.get(value)})`)));
    select.value = chosen;
  }
}

function update() {
  fillSelects();
  fitting = all.filter((item) => fits(item, null));
  for (const element of [...list.children]) {
    watcher.unobserve(element);
    if (element.card.player) element.card.player.hide();
  }
  list.replaceChildren();
  grown = 0;
  grow();
  byId("count").textContent = fitting.length === all.length ? plural(all.length, "case") : `${fitting.length} of ${plural(all.length, "case")}`;
  byId("nothing").hidden = fitting.length > 0;
  const chosen = new URLSearchParams();
  for (const select of selects) if (select.value) chosen.set(select.dataset.key, select.value);
  if (search.value) chosen.set("search", search.value);
  history.replaceState(null, "", chosen.size ? `#${chosen}` : location.pathname);
}

function grow() {
  for (const item of fitting.slice(grown, grown + BATCH)) {
    item.card ||= new Card(item.data);
    list.append(item.card.element);
    watcher.observe(item.card.element);
  }
  grown = Math.min(grown + BATCH, fitting.length);
}

/** Read the filters from the address, so that other pages can link to a selection. */
function readAddress() {
  const chosen = new URLSearchParams(location.hash.slice(1));
  fillSelects();
  for (const select of selects) select.value = chosen.get(select.dataset.key) || "";
  for (const select of selects) if (select.selectedIndex < 0) select.value = "";
  search.value = chosen.get("search") || "";
  update();
}

const playAll = byId("play-all"), camera = byId("camera"), speed = byId("speed");
const playingAll = () => playAll !== null && playAll.getAttribute("aria-pressed") === "true";
const shownCards = () => [...list.children].map((e) => e.card).filter((card) => card.player && card.player.visible);

for (const select of selects) select.addEventListener("change", update);
search.addEventListener("input", update);
byId("bar").addEventListener("submit", (event) => event.preventDefault());
byId("clear").addEventListener("click", (event) => {
  event.preventDefault();
  for (const select of selects) select.value = "";
  search.value = "";
  update();
});
window.addEventListener("hashchange", readAddress);
if (camera) {
  stage.camera = camera.value;
  camera.addEventListener("change", () => {
    stage.camera = camera.value;
    for (const card of shownCards()) card.player.show();
  });
  speed.addEventListener("change", () => { stage.speed = Number(speed.value); });
  const setPlayingAll = (wanted) => {
    playAll.setAttribute("aria-pressed", String(wanted));
    playAll.textContent = wanted ? "Pause all" : "Play all";
    for (const card of shownCards()) card.setPlaying(wanted);
  };
  playAll.addEventListener("click", () => setPlayingAll(!playingAll()));
  setPlayingAll(!matchMedia("(prefers-reduced-motion: reduce)").matches);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=search], select");
  const element = event.target.closest(".card"), card = element && element.card;
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing) return;
  const walk = (forward) => {
    const next = element ? (forward ? element.nextElementSibling : element.previousElementSibling) : list.firstElementChild;
    if (next) { next.focus({ preventScroll: true }); next.scrollIntoView({ block: "start" }); }
  };
  const keys = {
    "/": () => search.focus(),
    j: () => walk(true),
    k: () => walk(false),
    c: () => { if (camera) { camera.selectedIndex = (camera.selectedIndex + 1) % camera.length; camera.dispatchEvent(new Event("change")); } },
  };
  if (card && card.player && event.target === element) {
    const jump = (by) => { card.setPlaying(false); card.player.nudge(by); };
    Object.assign(keys, { " ": () => card.setPlaying(!card.player.playing), ArrowRight: () => jump(1), ArrowLeft: () => jump(-1) });
  }
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});

readAddress();
