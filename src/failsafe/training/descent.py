"""How the small networks are trained: a step of the optimizer, and what goes with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)
_LARGEST = 5.0
"""Norm to which gradients are cut."""


class Descent(Generic[Net]):
    """AdamW on a rate that rises and falls, with gradients cut, and a running average of the weights.

    Args:
        net: The network.
        rate: Highest learning rate.
        decay: Weight decay.
        average: Share of the running average that is kept at every step in the end.
        steps: Steps that there will be.

    Attributes:
        parts: All that changes from step to step, whose states a resumed run goes on from.
    """

    def __init__(self, net: Net, rate: float, decay: float, average: float, steps: int) -> None:
        self._net = net
        self._averaged = _running_average(net, average)
        self._optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=decay)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, _warm_cosine(steps))
        self.parts: tuple[Any, ...] = (net, self._averaged, self._optimizer, self._schedule)

    @property
    def smooth(self) -> Net:
        """The network with the averaged weights."""
        return cast(Net, self._averaged.module)

    def step(self, loss: Tensor) -> float:
        """Make a loss of the network smaller by one step; what it was."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._net.parameters(), _LARGEST)
        self._optimizer.step()
        self._schedule.step()
        self._averaged.update_parameters(self._net)
        return float(loss.detach())


def _running_average(net: nn.Module, share: float) -> torch.optim.swa_utils.AveragedModel:
    """A running average of the weights, which at first forgets faster, or it would long lag behind."""

    def update(kept: Sequence[Tensor], new: Sequence[Tensor], steps: Tensor | int) -> None:
        for mine, theirs in zip(kept, new, strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - min(share, (1 + float(steps)) / (10 + float(steps))))
            else:
                mine.copy_(theirs)

    average = cast(Any, torch.no_grad()(update))
    return torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=average, use_buffers=True)


def _warm_cosine(steps: int) -> Callable[[int], float]:
    """Learning rate by step, as a share of the highest: rising at first, then falling as a cosine."""
    warm = max(1, min(300, steps // 10))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm)))) + 1e-3

    return factor
