"""Learn where to hand back, from the hand-backs of recorded episodes.

After some hand-backs the policy succeeds; after others the monitor is alarmed again, or the episode fails. A
logistic regression on these outcomes tells, for this policy, a good moment from a bad one. ThriftyDAgger
(Hoque et al. 2021, arXiv:2109.08273) uses a learned probability of success to decide when a human hands back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from failsafe.errors import UserError
from failsafe.evaluation.conditions import CONDITIONS
from failsafe.evaluation.config import conditions_to_run
from failsafe.evaluation.results import Results
from failsafe.evaluation.statistics import SeedBootstrap, interval
from failsafe.monitors.hand_back import HandBackModel, log_odds, sigmoid
from failsafe.monitors.settings import MonitorSettings
from failsafe.records.episode import Ending, Episode
from failsafe.records.event import EventKind
from failsafe.records.seeds import RANGES, SeedRole, role_of, text_of

FEWEST = 20
"""Smallest number of hand-backs to learn from."""
_PENALTY, _INTERCEPT_PENALTY = 1.0, 0.1
"""Weights of the squared terms in the fit. An instruction whose hand-backs all end alike has no finite term
without a penalty."""
_FOLDS = 10


@dataclass(frozen=True)
class HandBack:
    """A hand-back of a recorded episode, and what came of it.

    Attributes:
        state: Task and seed, which identify the initial state.
        instruction: The instruction of the episode.
        stage: Stage that the recovery model named last before it.
        takeovers: Takeovers of the episode until then.
        failure_probability: The recovery model's last probability of failure before it.
        success: Whether the episode succeeded without a further takeover.
    """

    state: tuple[str, int]
    instruction: str
    stage: str
    takeovers: int
    failure_probability: float
    success: bool


def find_hand_backs(episode: Episode) -> list[HandBack]:
    """Return the hand-backs of an episode.

    A hand-back that another takeover follows counts as a failure, whether or not the alarm was needed.
    Episodes that crashed or diverged, or whose policy gave no valid action, have none.

    Args:
        episode: The record of an episode.
    """
    found: list[HandBack] = []
    takeovers, query = 0, None
    for event in episode.events if episode.ending in (Ending.SUCCESS, Ending.FAILURE) else ():
        if event.kind is EventKind.TAKE_OVER:
            takeovers += 1
        elif event.kind is EventKind.QUERY:
            query = event
        elif event.kind is not EventKind.HAND_BACK or not takeovers:
            continue
        elif query is not None and query.probability is not None:
            last = takeovers == episode.count(EventKind.TAKE_OVER)
            seen = query.stage, takeovers, query.probability
            state = episode.key.task, episode.key.seed
            found.append(HandBack(state, episode.instruction, *seen, episode.success and last))
    return found


def learn_hand_back(hand_backs: Sequence[HandBack], seeds: Iterable[tuple[int, int]] = ()) -> HandBackModel:
    """Learn where a policy succeeds after a hand-back.

    Args:
        hand_backs: Hand-backs of one policy with one recovery model.
        seeds: Seeds that they are from, for the record: first and one past the last of each evaluation.

    Raises:
        UserError: If there are fewer than `FEWEST`.
    """
    if len(hand_backs) < FEWEST:
        raise UserError(
            f"expected at least {FEWEST} hand-backs to learn from, got {len(hand_backs)}: evaluate more "
            "initial states, or with perturbations, under the conditions monitor, escalate and assist"
        )
    instructions = sorted({one.instruction for one in hand_backs})
    stages = sorted({(one.instruction, one.stage) for one in hand_backs})
    inputs = np.array(
        [
            [
                *(float(one.instruction == name) for name in instructions),
                *(float((one.instruction, one.stage) == stage) for stage in stages),
                math.log(one.takeovers),
                log_odds(one.failure_probability),
            ]
            for one in hand_backs
        ]
    )
    outcomes = np.array([one.success for one in hand_backs])
    penalties = np.array([_INTERCEPT_PENALTY] * len(instructions) + [_PENALTY] * (len(stages) + 2))
    terms = _fit(inputs, outcomes, penalties).tolist()
    states = sorted({one.state for one in hand_backs})
    units = np.array([states.index(one.state) for one in hand_backs])
    predicted = _cross_validate(inputs, outcomes, penalties, units)
    areas = SeedBootstrap(units).concordance(predicted, outcomes.astype(np.int64))
    rate = float(outcomes.mean())
    by_stage = zip(stages, terms[len(instructions) :], strict=False)
    found: dict[str, dict[str, float]] = {name: {} for name in instructions}
    for (instruction, stage), term in by_stage:
        found[instruction][stage] = round(term, 6)
    return HandBackModel(
        instructions={name: round(term, 6) for name, term in zip(instructions, terms, strict=False)},
        stages=found,
        takeovers=round(terms[-2], 6),
        failing=round(terms[-1], 6),
        hand_backs=len(hand_backs),
        successes=int(outcomes.sum()),
        auroc=float(areas[0]) if np.isfinite(areas[0]) else None,
        auroc_interval=interval(areas[1:]),
        brier=float(np.mean((predicted - outcomes) ** 2)),
        brier_of_rate=rate * (1.0 - rate),
        seeds=tuple(sorted(set(seeds))),
    )


def learn_from_results(
    folders: Sequence[Path], policy: str, weights: str, policy_weights: str = ""
) -> HandBackModel:
    """Learn where to hand back to a policy, from folders of results.

    Only conditions in which the monitor with its own recovery model hands back to the policy count. A control
    with another model or in place of the policy says nothing about the two.

    Args:
        folders: Results made by `failsafe evaluate` for the policy with the recovery model, on seeds that
            may choose something.
        policy: Name of the policy.
        weights: What identifies the recovery model's weights or code.
        policy_weights: The same of the policy; any if empty.

    Raises:
        UserError: If a folder is given twice, holds no results of the policy with the model under such a
            condition, or results of proof seeds, or there are too few hand-backs.
        RecordError: If a record is damaged or of another version.
    """
    found: list[HandBack] = []
    seeds: list[tuple[int, int]] = []
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError(f"expected each folder of results once, got {', '.join(map(str, folders))}")
    for folder in folders:
        results = Results(folder)
        config = results.manifest.config
        if policy not in config.policies or config.weights != weights:
            raise UserError(
                f"{folder}: expected results of {policy} with the recovery model that is calibrated, got "
                f"those of {', '.join(config.policies)} with {config.monitor}, or of other weights"
            )
        before = config.policy_weights.get(policy, "")
        if before and policy_weights and before != policy_weights:
            raise UserError(
                f"{folder}: expected results of the weights or code that {policy} has now, got those of "
                "others: evaluate again into another folder"
            )
        # A manifest from before seeds had roles states none.
        if role_of(range(config.first_seed, config.last_seed)) is SeedRole.PROOF:
            raise UserError(
                f"{folder}: expected results of seeds that may choose something, such as "
                f"{text_of(RANGES[SeedRole.DEVELOP][0])}, got those of proof seeds"
            )
        conditions = set(filter(_hands_back, conditions_to_run(config)))
        if not conditions:
            raise UserError(
                f"{folder}: expected results under the conditions monitor, escalate and assist, got those of "
                f"{', '.join(config.conditions)}, which show no hand-back of the monitor to the policy"
            )
        seeds.append((config.first_seed, config.last_seed))
        for episode in results.episodes():
            if episode.key.policy == policy and episode.key.condition in conditions:
                found += find_hand_backs(episode)
    return learn_hand_back(found, seeds)


def _hands_back(name: str) -> bool:
    """Return whether the monitor with the model under test hands back to the base policy in a condition."""
    chosen = CONDITIONS[name]
    # After a new beginning the last query is of before it, and says nothing about the hand-back.
    settings = chosen.settings(MonitorSettings()) if chosen.settings else MonitorSettings()
    if settings.retry_after is not None:
        return False
    unchanged = chosen.control is None and chosen.policy is None and chosen.run is None
    return unchanged and chosen.monitored and chosen.threshold != math.inf


def _fit(
    inputs: Float[np.ndarray, "N F"], outcomes: Bool[np.ndarray, "N"], penalties: Float[np.ndarray, "F"]
) -> Float[np.ndarray, "F"]:
    """Return the terms of the largest penalized likelihood."""
    from scipy.optimize import minimize  # here: it takes a third of a second to import

    signs = np.where(outcomes, 1.0, -1.0)

    def loss(terms: Float[np.ndarray, "F"]) -> tuple[float, Float[np.ndarray, "F"]]:
        margins = signs * (inputs @ terms)
        surprise = np.logaddexp(0.0, -margins)
        slope = signs * -np.expm1(-surprise)  # 1 minus the probability of what happened
        value = surprise.sum() + 0.5 * (penalties * terms**2).sum()
        return float(value), penalties * terms - inputs.T @ slope

    return minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B").x


def _cross_validate(
    inputs: Float[np.ndarray, "N F"],
    outcomes: Bool[np.ndarray, "N"],
    penalties: Float[np.ndarray, "F"],
    units: np.ndarray,
) -> Float[np.ndarray, "N"]:
    """Return the probability of each hand-back by a fit to hand-backs of other initial states."""
    predicted = np.zeros(len(outcomes))
    for fold in np.unique(units % _FOLDS):
        held = units % _FOLDS == fold
        terms = _fit(inputs[~held], outcomes[~held], penalties)
        predicted[held] = [sigmoid(odds) for odds in (inputs[held] @ terms).tolist()]
    return predicted
