from collections.abc import Sequence
from typing import Any

import torch
from pydantic import NonNegativeInt
from torch import Tensor

from nascore.engine.space import Wiring
from nascore.frameworks.base import Mask, framework
from nascore.frameworks.darts import DARTS


@framework("darts-pt")
class DARTSPT(DARTS):
    """DARTS, whose wiring is chosen by what the supernet loses without an operation.

    Edge by edge, in random order: the edge takes the operation without which the held-out accuracy
    is lowest, the others keep their weights; then theta is tuned. Ties go to the first operation.

    The authors also let alpha learn while theta is tuned, at a rate that falls by a cosine from
    lr / 10, constant here, with fresh momentum. They then keep two edges for each node.

    Source: Wang et al., 2021 (arXiv:2108.04392).
    """

    tuning: NonNegativeInt = 10  # passes over the training set after each edge; theirs

    def choose(self, search: Any, batches: Sequence[tuple[Tensor, Tensor]]) -> Wiring:
        z = self.draw(search.context()).weight
        rows = [list(row) for row in search.space.choices]  # what runs on each edge
        search.theta_optimiser.param_groups[0]["lr"] = search.config.lr / 10
        steps = 0 if search.config.freeze_theta else self.tuning * search.steps
        generator = search.streams["choose"]
        for e in torch.randperm(len(rows), generator=generator, device=z.device).tolist():
            if len(rows[e]) == 1:
                continue
            without = {}
            for k in rows[e]:
                others = [j for j in rows[e] if j != k]
                mask = Mask(z, z, [*rows[:e], others, *rows[e + 1 :]])
                without[k] = search.accuracy(mask, batches)
            k = min(without, key=without.get)
            rows[e], z[e, k] = [k], 1
            for _ in range(steps):
                batch = search.batch("train")
                search.step(batch, ["theta"], measure=False, mask=Mask(z, z, rows))
        return Wiring(search.space, tuple(search.space.operations[k] for (k,) in rows))
