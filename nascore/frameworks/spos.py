from collections.abc import Mapping, Sequence
from random import Random
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from nascore.engine.mask import Mask
from nascore.engine.space import Wiring
from nascore.frameworks.base import Formulas, framework
from nascore.frameworks.dsnas import DSNAS


@framework("spos")
class SPOS(DSNAS):
    """Single Path One-Shot: theta learns under uniform samples, then wirings evolve with it.

    Fitness is the held-out accuracy with the shared weights. Half of each generation are mutants of
    one of the best wirings so far, half are crossings of two. An edge of a mutant is drawn anew
    with a probability, an edge of a crossing is one of its parents'.

    The authors replace children that they have met before, limit the FLOPs, and measure the
    statistics of batch normalisation anew for each wiring; here it uses those of the batch.

    Arguments:
        population: wirings in a generation, theirs 50.
        generations: theirs 20.
        parents: the best wirings so far, theirs 10.
        mutation: probability of an edge to change, theirs 0.1.
    """

    population: PositiveInt = 50
    generations: PositiveInt = 20
    parents: PositiveInt = 10
    mutation: Annotated[float, Field(ge=0, le=1)] = 0.1

    settings: ClassVar[Mapping[str, Any]] = {"freeze_alpha": True}
    formulas = Formulas(
        mask="one-hot sample of the uniform distribution",
        score="log p",
        gradient="none: alpha stays 0",
        source="Guo et al., 2020 (arXiv:1904.00420)",
    )

    def choose(self, search: Any, batches: Sequence[tuple[Tensor, Tensor]]) -> Wiring:
        generator = search.streams["choose"]
        seed = torch.randint(2**53, (1,), generator=generator, device=search.device).item()
        pick, accuracy = Random(seed), {}
        allowed = [self.space.allowed[edge] for edge in self.space.edges]

        def mutated(name: str, names: Sequence[str]) -> str:
            return pick.choice(names) if pick.random() < self.mutation else name

        children = [tuple(map(pick.choice, allowed)) for _ in range(self.population)]
        for _ in range(self.generations):
            for names in children:
                if names not in accuracy:
                    mask = Mask.of(Wiring(self.space, names))
                    accuracy[names] = search.accuracy(mask, batches)
            best = sorted(accuracy, key=accuracy.get, reverse=True)[: self.parents]
            pairs = [(pick.choice(best), pick.choice(best)) for _ in range(self.population)]
            half = self.population // 2
            children = [tuple(map(pick.choice, zip(*pair, strict=True))) for pair in pairs[:half]]
            children += [tuple(map(mutated, one, allowed)) for one, _ in pairs[half:]]
        return Wiring(self.space, best[0])
