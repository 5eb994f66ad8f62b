"use strict";
/* Plays several rollouts side by side at one common step; frames come from one grid image per rollout and camera. */

/** Images in use, by URL: cases share nominal rollouts, and images of invisible cards are released. */
const images = new Map();

function acquireImage(url, done) {
  let entry = images.get(url);
  if (!entry) {
    entry = { image: new Image(), users: 0, waiting: [], ready: false };
    const loading = entry;
    entry.image.onload = () => {
      loading.ready = true;
      for (const callback of loading.waiting.splice(0)) callback();
    };
    entry.image.src = url;
    images.set(url, entry);
  }
  entry.users += 1;
  if (!entry.ready) entry.waiting.push(done);
  return entry;
}

function releaseImage(url) {
  const entry = images.get(url);
  if (entry && (entry.users -= 1) <= 0) images.delete(url);
}

/** One rollout and the location of its frames. */
class Rollout {
  constructor(frames, folder, trace) {
    const found = frames && frames.traces[trace];
    this.size = frames ? frames.size : 0;
    this.cameras = found ? frames.cameras : [];
    this.steps = found ? found.steps : [];
    this.columns = found ? found.columns : 1;
    this.folder = folder;
    this.trace = trace;
  }

  get last() { return this.steps.length ? this.steps[this.steps.length - 1] : 0; }

  url(camera) {
    if (!this.cameras.includes(camera)) return null;
    const { base } = window.FAILSAFE;
    return `${base}/${this.folder}/${encodeURIComponent(this.trace)}/${encodeURIComponent(camera)}.webp`;
  }

  /** Index of the last frame at or before a step. */
  frameAt(step) {
    let low = 0, high = this.steps.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.steps[middle] <= step) low = middle; else high = middle - 1;
    }
    return low;
  }
}

/** A canvas that shows one rollout; a recovery shows the failing rollout until the correction begins. */
class Pane {
  constructor(canvas) {
    this.canvas = canvas;
    this.parts = [];
    this.urls = [];
    this.drawn = "";
  }

  /** @param parts [{rollout, from}]: rollouts and the steps from which they are shown, ascending. */
  setRollouts(parts) { this.release(); this.parts = parts; }

  load(camera, changed) {
    this.release();
    this.urls = this.parts.map((part) => part.rollout.url(camera));
    this.entries = this.urls.map((url) => url && acquireImage(url, changed));
  }

  release() {
    for (const url of this.urls) if (url) releaseImage(url);
    this.urls = [];
    this.entries = [];
    this.drawn = "";
  }

  get last() { return this.parts.length ? this.parts[this.parts.length - 1].rollout.last : 0; }

  draw(step) {
    let i = this.parts.length - 1;
    while (i > 0 && step < this.parts[i].from) i -= 1;
    const entry = this.entries[i];
    if (!entry || !entry.ready) return;
    const { rollout } = this.parts[i], frame = rollout.frameAt(step), key = `${this.urls[i]} ${frame}`;
    if (key === this.drawn) return;
    this.drawn = key;
    const { size, columns } = rollout;
    if (this.canvas.width !== size) this.canvas.width = this.canvas.height = size;
    const x = (frame % columns) * size, y = Math.floor(frame / columns) * size;
    this.canvas.getContext("2d").drawImage(entry.image, x, y, size, size, 0, 0, size, size);
    this.canvas.dataset.frame = String(frame);
  }
}

/** State shared by all players: camera, speed and clock. */
const stage = {
  camera: "", speed: 1, playing: new Set(), request: 0, before: 0,

  add(player) {
    this.playing.add(player);
    if (!this.request) { this.before = performance.now(); this.request = requestAnimationFrame((t) => this.tick(t)); }
  },

  tick(now) {
    const seconds = Math.min((now - this.before) / 1000, 0.25); // do not jump after a tab was suspended
    this.before = now;
    for (const player of this.playing) player.advance(seconds * this.speed);
    this.request = this.playing.size ? requestAnimationFrame((t) => this.tick(t)) : 0;
  },
};

const REST = 2; // seconds for which the last frame stays before playback restarts

/** The panes of one card at one common step. */
class Player {
  constructor(panes, hz, onStep) {
    Object.assign(this, { panes, hz, onStep, position: 0, visible: false, playing: false });
  }

  get last() { return Math.max(0, ...this.panes.map((pane) => pane.last)); }
  get step() { return Math.min(Math.floor(this.position), this.last); }

  show() {
    this.visible = true;
    for (const pane of this.panes) pane.load(stage.camera, () => this.draw());
    this.draw();
    if (this.playing) stage.add(this);
  }

  hide() {
    this.visible = false;
    stage.playing.delete(this);
    for (const pane of this.panes) pane.release();
  }

  play(wanted) {
    this.playing = wanted;
    if (wanted && this.step >= this.last) this.position = 0;
    if (!wanted) stage.playing.delete(this);
    else if (this.visible) stage.add(this);
  }

  advance(seconds) {
    this.position += seconds * this.hz;
    if (this.position > this.last + REST * this.hz) this.position = 0;
    this.draw();
  }

  /** Step to the next frame of any pane, forward (1) or back (-1). */
  nudge(direction) {
    const steps = this.panes.flatMap((pane) => pane.parts.flatMap((part) => part.rollout.steps));
    const beyond = steps.filter((step) => direction * (step - this.step) > 0).sort((a, b) => direction * (a - b));
    if (beyond.length) this.seek(beyond[0]);
  }

  seek(step) { this.position = Math.max(0, Math.min(step, this.last)); this.draw(); }

  draw() {
    if (this.visible) for (const pane of this.panes) pane.draw(this.step);
    this.onStep(this.step);
  }
}
