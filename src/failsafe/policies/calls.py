"""Calls of a base policy: whatever it raises ends its episode, not the run."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import numpy as np

from failsafe.errors import DivergedError, PolicyError
from failsafe.policies.contract import Policy, check_chunk
from failsafe.records.observation import PolicyObservation


@contextlib.contextmanager
def policy_errors(policy: Policy) -> Generator[None, None, None]:
    """Raise whatever a policy raises in the context as a `PolicyError`.

    Raises:
        PolicyError: If the policy raises anything.
        DivergedError: If the physics diverges while the policy acts.
    """
    try:
        yield
    except (PolicyError, DivergedError):
        raise
    except (Exception, SystemExit) as error:
        raise PolicyError(f"{policy.name} raised {type(error).__name__}: {error}") from error


def ask(policy: Policy, observation: PolicyObservation) -> list[np.ndarray]:
    """Return the actions of a policy, each [7].

    Args:
        policy: The policy.
        observation: What it sees.

    Raises:
        PolicyError: If the policy raises anything, or returns no valid chunk.
        DivergedError: If the physics diverges while the policy acts.
    """
    with policy_errors(policy):
        return list(check_chunk(policy.name, policy.act(observation), policy.action_space.chunk))
