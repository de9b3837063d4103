from nascore.frameworks.base import Context, Framework, Mask, framework


@framework("darts")
class DARTS(Framework):
    """Deterministic and dense: every operation runs, weighted by its probability.

    dL/dalpha_m = C_m - Z_m sum_k C_k over the operations k of an edge. Bi-level search takes the
    cost at theta (order 1) or after a virtual step of theta (order 2, see unrolled.py).

    Source: Liu et al., 2019 (arXiv:1806.09055).
    """

    dense = True
    unrolls = True

    def draw(self, context: Context) -> Mask:
        score = context.alpha.log_softmax(dim=1)
        return Mask(score.detach().exp(), score)
