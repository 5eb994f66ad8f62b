"use strict";
/* The controls below the panes of a player: play and pause, a slider with marks, the clock. */

class Transport {
  /** @param player Calls `show` with every step. */
  constructor(player) {
    this.player = player;
    this.marks = make("div", { class: "marks" });
    this.ticks = make("div", { class: "ticks", "aria-hidden": "true" });
    this.clock = make("span", { class: "clock" });
    this.slider = make("input", {
      type: "range", min: 0, max: 0, step: 1, value: 0, "aria-label": "Control step", class: "slider",
      oninput: () => { this.setPlaying(false); player.seek(Number(this.slider.value)); },
    });
    this.button = make("button", { type: "button", class: "play", onclick: () => this.setPlaying(!player.playing) });
    this.element = make("div", { class: "transport" }, this.button,
      make("div", { class: "track" }, this.ticks, this.slider), this.clock);
  }

  /** @param marks [[class, text, step]]. */
  setMarks(marks) {
    const { last } = this.player;
    this.slider.max = last;
    this.marks.replaceChildren(...marks.map(([name, text, step]) => make("button", {
      type: "button", class: `mark ${name}`, title: `Go to step ${step}`,
      onclick: () => { this.setPlaying(false); this.player.seek(step); },
    }, `${text} `, make("b", {}, String(step)))));
    this.ticks.replaceChildren(...marks.map(([name, , step]) => {
      const tick = make("i", { class: `tick ${name}` });
      tick.style.setProperty("--at", String(last ? Math.min(step / last, 1) : 0));
      return tick;
    }));
  }

  setPlaying(wanted) {
    this.player.play(wanted);
    this.button.textContent = wanted ? "❚❚" : "►";
    this.button.setAttribute("aria-label", wanted ? "Pause" : "Play");
  }

  show(step) {
    this.slider.value = step;
    this.clock.textContent = `step ${step}/${this.player.last} · ${(step / this.player.hz).toFixed(1)} s`;
  }
}
