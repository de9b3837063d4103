from collections.abc import Collection

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from nascore.engine.random import gumbel
from nascore.frameworks.base import Context, Mask, Share, forbidden_operations, framework
from nascore.frameworks.reinforce import REINFORCE


@framework("enas")
class ENAS(REINFORCE):
    """A recurrent controller samples the operations, edge by edge, and learns by REINFORCE.

    An LSTM reads the operation of the edge before; p = softmax(tanh_constant tanh(W h)). The reward
    is the accuracy on the batch plus the entropy of the sampled distributions, which is a number to
    it, as in the authors' code. Theta learns in odd epochs, the controller in even ones.

    Probability and wiring are those of the greedy sequence: each edge takes its most probable
    operation, and the edges after it know.

    The defaults are the authors'. Their controller also picks the edges, prefers separable
    convolutions at first, and takes 30 steps an epoch, each from 10 samples; their Adam has no
    momentum, and its rate falls.

    Source: Pham et al., 2018 (arXiv:1802.03268).
    """

    decay: Share = 0.99  # of the moving average of the reward
    size: PositiveInt = 64  # of the hidden state
    tanh_constant: PositiveFloat = 0.44  # limit of the logits, 1.1 / 2.5
    entropy: NonNegativeFloat = 1e-4  # its weight in the reward

    settings = {"arch_lr": 0.0035, "arch_weight_decay": 0.0}

    def parameters(self, alpha: Tensor, generator: Generator | None) -> dict[str, Tensor]:
        k, h = alpha.shape[1], self.size
        shapes = {"start": (1, h), "embedding": (k, h), "lstm": (4 * h, 2 * h), "output": (h, k)}
        empty = {name: alpha.new_empty(shape) for name, shape in shapes.items()}
        return {name: p.uniform_(-0.1, 0.1, generator=generator) for name, p in empty.items()}

    def learns(self, epoch: int, epochs: int) -> Collection[str]:
        return ["theta"] if epoch % 2 else ["alpha"]

    def draw(self, context: Context) -> Mask:
        return Mask.sample(*self._unroll(context, noisy=True))

    def probability(self, context: Context) -> Tensor:
        return self._unroll(context, noisy=False)[1].exp()

    def loss(self, context: Context) -> Tensor:
        right = context.logits.argmax(dim=1) == context.labels
        p = context.mask.score.detach().exp()
        return -right.to(p.dtype).mean() - self.entropy * torch.special.entr(p).sum()

    def _unroll(self, context: Context, noisy: bool) -> tuple[Tensor, Tensor]:
        """Operations, (edges,), and log p, (edges, operations), sampled or the most probable."""
        start, embedding, lstm, output = context.learned.values()
        x, state, steps = start, (torch.zeros_like(start),) * 2, []
        for forbidden in forbidden_operations(context.space, start.device):
            state = torch.lstm_cell(x, state, *lstm.chunk(2, dim=1))
            logits = self.tanh_constant * (state[0] @ output).tanh()  # (1, operations)
            score = logits.masked_fill(forbidden, -torch.inf).log_softmax(dim=1)
            noise = gumbel(score, context.generator) if noisy else 0
            k = (score.detach() + noise).argmax(dim=1)
            steps.append((k, score))
            x = embedding[k]
        return tuple(map(torch.cat, zip(*steps, strict=True)))
