"use strict";
/* The card of one case. Every text is set as text, never as markup. */

const isZero = (x) => Math.abs(x) < 0.05; // as it is written
const signed = (x) => (isZero(x) ? "" : x > 0 ? "+" : "−") + Math.abs(x).toFixed(1);
const MARKS = { injection: "injection", onset: "onset", failure: "failure", detection: "detection", label: "label" };

class Card {
  constructor(data) {
    this.data = data;
    this.element = make("article", { class: "card", tabindex: "0", "data-id": data.id, "aria-label": `Case ${data.id}` });
    this.element.card = this;
    this.player = null;
    this.label = 0;
  }

  /** Build the contents; called when the card first comes near the viewport. */
  fill() {
    if (this.player) return;
    const { data } = this, { categories, nominals } = window.FAILSAFE, nominal = nominals[data.nominal];
    this.nominal = nominal;
    const frames = data.frames || nominal.frames;
    this.panes = this.makePanes();
    this.player = new Player(this.panes.map((p) => p.pane), frames ? frames.hz : 20, (step) => this.onStep(step));
    this.verification = make("section", { class: "verification", "aria-label": "Verification" });
    this.correction = make("section", { class: "correction", "aria-label": "Correction" });
    this.labels = make("div", { class: "labels", role: "group", "aria-label": "Labelled steps" });
    this.transport = new Transport(this.player);
    const hasFrames = this.panes.some((p) => p.rollout.steps.length > 0);
    this.element.append(
      make("header", {},
        make("span", { class: `category ${data.category}` }, categories[data.category] || data.category),
        make("h2", {}, data.causes.map((c) => spoken(c.mode)).join(" + ") || "no cause"),
        make("span", { class: "where" }, `${data.task} · seed ${data.seed}`)),
      make("p", { class: "instruction" }, data.instruction),
      ...data.causes.map((c) => make("p", { class: "cause" }, c.description)),
      ...(data.reason ? [make("p", { class: "reason" }, data.reason)] : []),
      make("div", { class: "panes" }, ...this.panes.map((p) => p.element)),
      ...(hasFrames ? [this.transport.element] : []),
      this.transport.marks, this.labels,
      make("div", { class: "columns" }, this.correction, this.verification),
      make("p", { class: "id" }, make("code", {}, data.id)));
    this.setPlaying(false);
    const first = data.labels.findIndex((label) => label.proven);
    this.setLabel(Math.max(first, 0));
    this.player.seek(this.player.last); // a paused card shows how the three rollouts end: their beginnings are equal
  }

  makePanes() {
    const { data, nominal } = this;
    const rollouts = [
      ["Nominal rollout", new Rollout(nominal.frames, data.nominal, "nominal"), "nominal"],
      [data.ends === "fails" ? "Failure" : "Perturbed", new Rollout(data.frames, data.folder, "failing"), "failing"],
      ["Recovery", new Rollout(data.frames, data.folder, ""), "recovery"],
    ];
    return rollouts.map(([title, rollout, kind]) => {
      const canvas = make("canvas", { width: 224, height: 224, role: "img", "aria-label": title });
      const missing = make("p", { class: "missing" }), state = make("span", { class: "state" });
      const frame = make("div", { class: "frame" }, canvas, missing);
      const element = make("figure", { class: `pane ${kind}` }, frame,
        make("figcaption", {}, make("b", {}, title), " ", state));
      const pane = new Pane(canvas);
      const made = { element, pane, rollout, missing, state, kind };
      this.setRollout(made, [{ rollout, from: 0 }], "");
      return made;
    });
  }

  setRollout(made, parts, why) {
    made.rollout = parts[parts.length - 1].rollout;
    const seen = made.rollout.steps.length > 0;
    made.pane.setRollouts(seen ? parts : []);
    made.element.classList.toggle("empty", !seen);
    made.missing.textContent = seen ? "" : why || this.missing(made.kind);
  }

  missing(kind) {
    if (kind !== "nominal" && !this.data.recorded) return "No rollout was recorded.";
    // Without any frames the page's header says what to do; here only cases of this category were not rendered.
    return stage.camera ? `Not rendered: failsafe render --categories ${this.data.category}` : "Not rendered.";
  }

  /** Select one of the labelled steps and update everything that depends on it. */
  setLabel(index) {
    this.label = index;
    const { data } = this, label = data.labels[index], [, failing, recovery] = this.panes;
    if (label && label.recovery) {
      const own = new Rollout(data.frames, data.folder, label.recovery);
      this.setRollout(recovery, [{ rollout: failing.rollout, from: 0 }, { rollout: own, from: label.step }], "");
    } else {
      const none = new Rollout(null, "", "");
      this.setRollout(recovery, [{ rollout: none, from: 0 }], data.unrecovered);
    }
    const chips = data.labels.map((l, i) => make("button", {
      type: "button", class: "chip", "aria-pressed": String(i === index), onclick: () => this.setLabel(i),
      title: l.proven ? `${l.verification.successes} of ${plural(l.verification.rollouts, "rollout")} recovered from here` : "No correction was proven from here",
    }, `${l.step} ${l.stage} `, make("b", {}, l.proven ? `${l.verification.successes}/${l.verification.rollouts}` : "none")));
    this.labels.replaceChildren(...(chips.length > 1 ? [make("span", {}, "Recover at step"), ...chips] : []));
    this.correction.replaceChildren(...correctionParts(data, label));
    this.verification.replaceChildren(...verificationParts(label));
    this.makeMarks(label);
    if (this.player.visible) this.player.show(); // loads the frames of the other recovery
    else this.player.draw();
  }

  makeMarks(label) {
    const times = { ...this.data.times, ...(label ? { label: label.step } : {}) };
    this.transport.setMarks(Object.keys(MARKS).filter((name) => name in times).map((name) => [name, MARKS[name], times[name]]));
  }

  setPlaying(wanted) { this.transport.setPlaying(wanted); }

  onStep(step) {
    if (!this.transport) return;
    const { data } = this;
    this.transport.show(step);
    for (const made of this.panes) {
      const [text, tone] = describeState(made, step, data, data.labels[this.label], this.nominal);
      made.state.textContent = text;
      made.element.dataset.tone = tone;
    }
  }
}

/** Return the text and the tone of a pane at a step. */
function describeState(made, step, data, label, nominal) {
  const { times } = data, ended = made.rollout.steps.length && step >= made.rollout.last;
  const stageAt = (at) => (data.stages.filter(([start]) => start <= at).pop() || ["", ""])[1];
  if (!made.rollout.steps.length) return ["", ""];
  if (made.kind === "nominal") return ended ? [`end: ${nominal.ends}`, nominal.ends === "succeeds" ? "good" : ""] : ["nothing perturbed", ""];
  if (made.kind === "failing") {
    if (ended) return [`end: ${data.ends}`, data.ends === "succeeds" ? "good" : "bad"];
    if (step >= (times.failure ?? Infinity)) return [`out of reach: ${stageAt(step)}`, "bad"];
    if (step >= (times.onset ?? Infinity)) return [`deviates from nominal: ${stageAt(step)}`, "warn"];
    if (step >= (times.injection ?? Infinity)) return [`perturbed: ${stageAt(step)}`, "warn"];
    return [stageAt(step), ""];
  }
  const actions = label.correction ? label.correction.actions.length : 0;
  if (ended) return [`end: ${label.verification.with ? "succeeds" : "fails"}`, label.verification.with ? "good" : "bad"];
  if (step < label.step) return ["still the perturbed rollout", "before"];
  if (step < label.step + actions) return [`correction, action ${step - label.step + 1} of ${actions}`, "act"];
  return ["the plan continues", "good"];
}

function correctionParts(data, label) {
  if (!label) return [make("h3", {}, "Correction"), make("p", {}, data.unrecovered)];
  const { correction } = label, heading = make("h3", {}, `Correction at step ${label.step}, ${label.stage}`);
  if (!correction) return [heading, make("p", {}, "No candidate ended in success from here.")];
  const names = ["", "x mm", "y mm", "z mm", "x °", "y °", "z °", "gripper"];
  const grip = (g) => (g >= 0.99 ? "open" : g <= -0.99 ? "closed" : g.toFixed(2));
  const rows = correction.actions.map((action, i) => make("tr", {}, make("th", { scope: "row" }, String(i + 1)),
    ...action.slice(0, 6).map((v) => make("td", { class: isZero(v) ? "zero" : null }, signed(v))), make("td", {}, grip(action[6]))));
  return [heading,
    make("p", {}, make("b", {}, correction.strategy), `: ${plural(correction.actions.length, "action")}, `
      + `${correction.millimetres} mm and ${correction.degrees}° in total, in the frame “${correction.frame}”.`),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Actions" }, make("table", {},
      make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)))), make("tbody", {}, ...rows))),
    make("p", {}, "Then ", correction.fresh ? "a fresh plan" : "the plan", " continues at ", make("b", {}, correction.resume || "its end"),
      correction.then.length ? `: ${correction.then.join(" → ")}.` : ".")];
}

function verificationParts(label) {
  if (!label) return [];
  const { verification } = label, { attempts } = verification;
  const fact = (ok, text) => make("li", { class: ok ? "yes" : "no" }, text);
  const exactly = {
    restore: ["State restored bit for bit", "State was not restored exactly"],
    replay: ["Prefix replayed bit for bit", "Prefix did not replay exactly"],
  };
  const ends = (success) => (success ? "ends in success" : "fails");
  const items = [
    fact(verification.exact, exactly[verification.branch][verification.exact ? 0 : 1]),
    fact(!verification.without, `Without the correction it ${ends(verification.without)}`)];
  if (label.correction) {
    items.push(fact(verification.with, `With the correction it ${ends(verification.with)}`));
    items.push(make("li", { class: verification.successes === verification.rollouts ? "yes" : "part" },
      `Recoverability: ${verification.successes} of ${plural(verification.rollouts, "rollout")}${verification.noise ? ` (${verification.noise})` : ""}`));
  }
  const tried = attempts.map((attempt) => make("li", { class: attempt.success ? "yes" : "no" },
    `${attempt.strategy}, ${plural(attempt.actions, "action")}: ${attempt.success ? "succeeds" : attempt.reason || "fails"}`));
  return [make("h3", {}, label.proven ? "Proof" : "Verification"), make("ul", {}, ...items),
    ...(tried.length ? [make("details", {}, make("summary", {}, `${plural(tried.length, "candidate")} tried`), make("ul", {}, ...tried))] : [])];
}
