"use strict";
/* Plays the replay videos of a report: the policy alone beside the same episode with the monitor. */

class VideoCard {
  constructor(element, data) {
    this.data = data;
    this.panes = [["never", "Policy alone"], ["monitor", "With the monitor"]].map(([condition, title]) => {
      const canvas = make("canvas", { width: data.frames.size, height: data.frames.size, role: "img", "aria-label": title });
      const state = make("span", { class: "state" }), rollout = new Rollout(data.frames, data.folder, condition), pane = new Pane(canvas);
      pane.setRollouts([{ rollout, from: 0 }]);
      const figure = make("figure", { class: `pane ${condition}` }, make("div", { class: "frame" }, canvas),
        make("figcaption", {}, make("b", {}, title), " ", state));
      return { condition, pane, rollout, state, figure };
    });
    this.player = new Player(this.panes.map((made) => made.pane), data.frames.hz, (step) => this.onStep(step));
    this.transport = new Transport(this.player);
    element.replaceChildren(make("div", { class: "panes two" }, ...this.panes.map((made) => made.figure)),
      this.transport.element, this.transport.marks);
    element.card = this;
    this.transport.setMarks(data.marks);
    this.setPlaying(false);
    this.player.seek(this.player.last); // a paused card shows how the two episodes end: their beginnings are equal
  }

  setPlaying(wanted) { this.transport.setPlaying(wanted); }

  onStep(step) {
    if (!this.transport) return;
    this.transport.show(step);
    for (const { condition, rollout, state, figure } of this.panes) {
      const [text, tone] = this.stateAt(condition, rollout, step);
      state.textContent = text;
      figure.dataset.tone = tone;
    }
  }

  /** Return the text and the tone of a pane at a step. */
  stateAt(condition, rollout, step) {
    if (step >= rollout.last) return [`end: ${this.data.endings[condition]}, step ${rollout.last}`, this.data.endings[condition] === "success" ? "good" : "bad"];
    const acting = condition === "monitor" && this.data.acting.some(([from, to]) => from <= step && step <= to);
    return acting ? ["the monitor acts", "act"] : ["the policy acts", ""];
  }
}

const videoCards = [...document.querySelectorAll("[data-video]")].map((e) => new VideoCard(e, window.FAILSAFE.videos[e.dataset.video]));
const cameraSelect = document.getElementById("camera"), speedSelect = document.getElementById("speed");
if (cameraSelect) {
  stage.camera = cameraSelect.value;
  const watcher = new IntersectionObserver((entries) => {
    for (const { target: { card }, isIntersecting } of entries) {
      if (isIntersecting !== card.player.visible) isIntersecting ? card.player.show() : card.player.hide();
    }
  }, { rootMargin: "200px" });
  for (const element of document.querySelectorAll("[data-video]")) watcher.observe(element);
  cameraSelect.addEventListener("change", () => {
    stage.camera = cameraSelect.value;
    for (const card of videoCards) if (card.player.visible) card.player.show();
  });
  speedSelect.addEventListener("change", () => { stage.speed = Number(speedSelect.value); });
  document.getElementById("videos-bar").addEventListener("submit", (event) => event.preventDefault());
}
