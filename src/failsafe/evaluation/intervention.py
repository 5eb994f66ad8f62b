"""How much of an episode the monitor acts, who is in control at the end, and how soon episodes succeed.

Everything is computed from records: the control steps between the events `take_over` and `hand_back`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from failsafe.evaluation.statistics import SeedBootstrap, interval, rate_interval
from failsafe.records.episode import Episode
from failsafe.rollouts.stopping import HOLD_SECONDS

STEP_LIMITS = (50, 100, 150, 200, 400)
"""Control steps by which success is counted."""


@dataclass(frozen=True)
class Intervention:
    """What part the monitor has in some episodes.

    Attributes:
        share: Share of all control steps in which the monitor acts.
        share_interval: 95 % bootstrap interval of `share` over initial states.
        rescued: Number of rescued episodes.
        rescued_share: The same share over rescued episodes; None if there are none.
        rescued_interval: Its interval.
        policy_ends: Number of rescued episodes that end under the base policy: it acts during the
            last 0.6 s, the time for which a success has to last.
        policy_ends_interval: 95 % interval of their share (`failsafe.evaluation.statistics.rate_interval`).
    """

    share: float
    share_interval: tuple[float, float] | None
    rescued: int
    rescued_share: float | None
    rescued_interval: tuple[float, float] | None
    policy_ends: int
    policy_ends_interval: tuple[float, float] | None

    @property
    def policy_ends_share(self) -> float | None:
        """Share of rescued episodes that end under the base policy."""
        return self.policy_ends / self.rescued if self.rescued else None


@dataclass(frozen=True)
class StepLimit:
    """Successes within a number of control steps.

    Attributes:
        steps: The limit.
        successes: Number of episodes that succeed within it.
        interval: 95 % interval of the success rate (`failsafe.evaluation.statistics.rate_interval`).
    """

    steps: int
    successes: int
    interval: tuple[float, float] | None


def measure_intervention(episodes: Sequence[Episode], rescued: Sequence[Episode]) -> Intervention:
    """Measure the part of the monitor in episodes.

    Args:
        episodes: All episodes of a condition; at least one.
        rescued: Those of them that the policy alone fails in and that succeed.
    """
    ends = [ends_under_policy(episode) for episode in rescued]
    share, share_interval = _share(episodes)
    rescued_share, rescued_interval = _share(rescued) if rescued else (None, None)
    return Intervention(
        share=share,
        share_interval=share_interval,
        rescued=len(rescued),
        rescued_share=rescued_share,
        rescued_interval=rescued_interval,
        policy_ends=sum(ends),
        policy_ends_interval=rate_interval(ends, number_states(rescued)),
    )


def success_curve(episodes: Sequence[Episode]) -> tuple[StepLimit, ...]:
    """Count the successes within each of `STEP_LIMITS`.

    Args:
        episodes: The episodes.
    """
    units = number_states(episodes)
    within = {limit: [e.success and e.steps <= limit for e in episodes] for limit in STEP_LIMITS}
    return tuple(StepLimit(limit, sum(done), rate_interval(done, units)) for limit, done in within.items())


def ends_under_policy(episode: Episode) -> bool:
    """Return whether the base policy acts in all of the time for which a success has to last.

    Args:
        episode: The record.
    """
    if not episode.takeovers:
        return True
    control_hz = episode.steps / episode.robot_seconds if episode.robot_seconds else 0.0
    return episode.takeovers[-1][1] <= episode.steps - round(HOLD_SECONDS * control_hz)


def _share(episodes: Sequence[Episode]) -> tuple[float, tuple[float, float] | None]:
    steps = np.array([[episode.intervention_steps, episode.steps] for episode in episodes], dtype=np.float64)
    if not steps[:, 1].any():
        return 0.0, None
    if not steps[:, 0].any():  # a bootstrap of nothing states no uncertainty
        return 0.0, None
    totals = SeedBootstrap(np.array(number_states(episodes), dtype=np.int64)).total(steps)
    shares = totals[:, 0] / np.maximum(totals[:, 1], 1)
    return float(shares[0]), interval(shares[1:])


def number_states(episodes: Sequence[Episode]) -> list[int]:
    """Return the number of the initial state of each episode: equal for episodes that begin alike.

    Args:
        episodes: The episodes of one policy.
    """
    states = [(episode.key.task, episode.key.seed) for episode in episodes]
    numbers = {state: i for i, state in enumerate(dict.fromkeys(states))}
    return [numbers[state] for state in states]
