"use strict";
/* Plays the films of a report: the policy alone beside the same episode with the monitor. */

class FilmCard {
  constructor(element, data) {
    this.data = data;
    this.panes = [["never", "Policy alone"], ["monitor", "With the monitor"]].map(([arm, title]) => {
      const canvas = make("canvas", { width: data.frames.size, height: data.frames.size, role: "img", "aria-label": title });
      const state = make("span", { class: "state" }), rollout = new Rollout(data.frames, data.folder, arm), pane = new Pane(canvas);
      pane.setRollouts([{ rollout, from: 0 }]);
      const figure = make("figure", { class: `pane ${arm}` }, make("div", { class: "frame" }, canvas),
        make("figcaption", {}, make("b", {}, title), " ", state));
      return { arm, pane, rollout, state, figure };
    });
    this.player = new Player(this.panes.map((made) => made.pane), data.frames.hz, (step) => this.onStep(step));
    this.transport = new Transport(this.player);
    element.replaceChildren(make("div", { class: "panes two" }, ...this.panes.map((made) => made.figure)),
      this.transport.element, this.transport.marks);
    element.card = this;
    this.transport.setMarks(data.marks);
    this.setPlaying(false);
    this.player.seek(this.player.last); // a card at rest shows how the two end, not two equal beginnings
  }

  setPlaying(wanted) { this.transport.setPlaying(wanted); }

  onStep(step) {
    if (!this.transport) return;
    this.transport.show(step);
    for (const { arm, rollout, state, figure } of this.panes) {
      const [words, tone] = this.stateAt(arm, rollout, step);
      state.textContent = words;
      figure.dataset.tone = tone;
    }
  }

  /** What a pane shows at a step, and the colour that goes with it. */
  stateAt(arm, rollout, step) {
    if (step >= rollout.last) return [`end: ${this.data.endings[arm]}, step ${rollout.last}`, this.data.endings[arm] === "success" ? "good" : "bad"];
    const acting = arm === "monitor" && this.data.acting.some(([from, to]) => from <= step && step <= to);
    return acting ? ["the monitor acts", "act"] : ["the policy acts", ""];
  }
}

const filmCards = [...document.querySelectorAll("[data-film]")].map((e) => new FilmCard(e, window.FAILSAFE.videos[e.dataset.film]));
const filmCamera = document.getElementById("camera"), filmSpeed = document.getElementById("speed");
if (filmCamera) {
  stage.camera = filmCamera.value;
  const watcher = new IntersectionObserver((entries) => {
    for (const { target: { card }, isIntersecting } of entries) {
      if (isIntersecting !== card.player.visible) isIntersecting ? card.player.show() : card.player.hide();
    }
  }, { rootMargin: "200px" });
  for (const element of document.querySelectorAll("[data-film]")) watcher.observe(element);
  filmCamera.addEventListener("change", () => {
    stage.camera = filmCamera.value;
    for (const card of filmCards) if (card.player.visible) card.player.show();
  });
  filmSpeed.addEventListener("change", () => { stage.speed = Number(filmSpeed.value); });
  document.getElementById("films-bar").addEventListener("submit", (event) => event.preventDefault());
}
