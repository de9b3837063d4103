from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor

from nascore.engine.space import Wiring
from nascore.frameworks.base import Mask, Share, framework
from nascore.frameworks.dsnas import DSNAS


@framework("spos")
class SPOS(DSNAS):
    """Single Path One-Shot: theta learns under uniform samples, then wirings evolve with it.

    Fitness is the held-out accuracy with the shared weights. Half of each generation are mutants of
    one of the best wirings so far, half are crossings of two. An edge of a mutant is drawn anew
    with a probability, an edge of a crossing is one of its parents'.

    The defaults are the authors'. They also replace children that they have met before, limit the
    FLOPs, and measure the statistics of batch normalisation anew for each wiring; here it uses
    those of the batch.

    Source: Guo et al., 2020 (arXiv:1904.00420).
    """

    population: PositiveInt = 50  # wirings in a generation
    generations: PositiveInt = 20
    parents: PositiveInt = 10  # the best wirings so far
    mutation: Share = 0.1  # probability that an edge of a mutant is drawn anew

    settings = {"freeze_alpha": True}

    def choose(self, search: Any, batches: Sequence[tuple[Tensor, Tensor]]) -> Wiring:
        generator = search.streams["choose"]
        seed = torch.randint(2**53, (1,), generator=generator, device=search.device).item()
        pick, accuracy = Random(seed), {}
        allowed = [search.space.allowed[edge] for edge in search.space.edges]

        def mutated(name: str, names: Sequence[str]) -> str:
            return pick.choice(names) if pick.random() < self.mutation else name

        children = [tuple(map(pick.choice, allowed)) for _ in range(self.population)]
        for _ in range(self.generations):
            for names in children:
                if names not in accuracy:
                    mask = Mask.of(Wiring(search.space, names))
                    accuracy[names] = search.accuracy(mask, batches)
            best = sorted(accuracy, key=accuracy.get, reverse=True)[: self.parents]
            pairs = [(pick.choice(best), pick.choice(best)) for _ in range(self.population)]
            half = self.population // 2
            children = [tuple(map(pick.choice, zip(*pair, strict=True))) for pair in pairs[:half]]
            children += [tuple(map(mutated, one, allowed)) for one, _ in pairs[half:]]
        return Wiring(search.space, best[0])
