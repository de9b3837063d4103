import pytest
import torch

from nascore.fast.concatenate import concatenate


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_concatenation_gives_gradients_back_in_one_piece(layout, draw):
    """As torch.cat, but no gradient is a slice of another; also differentiated twice."""
    generator = torch.Generator().manual_seed(0)

    def draw(channels):
        x = torch.randn(2, channels, 4, 4, dtype=torch.float64, generator=generator)
        return x.contiguous(memory_format=layout)

    maps = [draw(3).requires_grad_(), draw(5).requires_grad_()]
    whole, gradient = concatenate(maps), draw(8)
    assert torch.equal(whole, torch.cat(maps, dim=1))
    found = torch.autograd.grad(whole, maps, gradient)
    for one, other in zip(found, gradient.split([3, 5], dim=1), strict=True):
        assert torch.equal(one, other) and one.is_contiguous(memory_format=layout)
    assert torch.autograd.gradgradcheck(lambda *x: concatenate(x), maps)
