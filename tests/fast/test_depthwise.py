import pytest
import torch
import torch.nn.functional as F

from nascore.fast.depthwise import Depthwise, batch_to_space, space_to_batch


def gradients(x, weight, y):
    generator = torch.Generator().manual_seed(1)
    slope = torch.randn(y.shape, dtype=y.dtype, generator=generator)
    return torch.autograd.grad(y, (x, weight), slope)


@pytest.mark.parametrize("size", [(8, 8), (6, 5), (3, 3)])
@pytest.mark.parametrize("kernel, dilation", [(1, 1), (3, 1), (3, 2), (5, 2), (7, 3)])
def test_it_equals_the_plain_convolution(kernel, dilation, size):
    """Output and both gradients, in float64, to 1e-12."""
    module = Depthwise(4, kernel, dilation).double()
    x = torch.randn(3, 4, *size, dtype=torch.float64)
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    padding = dilation * (kernel // 2)
    plain = F.conv2d(x, module.weight, padding=padding, dilation=dilation, groups=4)
    found = module(x)
    assert found.shape == x.shape and torch.allclose(found, plain, atol=1e-12)
    for one, other in zip(
        gradients(x, module.weight, found), gradients(x, module.weight, plain), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch's own, on the copy that it makes
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", [2, 4])
def test_an_even_kernel_keeps_the_shape(kernel, dilation):
    """Padded on both sides, with one place more at the end if the number is odd; to 1e-12."""
    module = Depthwise(4, kernel, dilation).double()
    x = torch.randn(3, 4, 8, 7, dtype=torch.float64, requires_grad=True)
    total = dilation * (kernel - 1)
    sides = (total // 2, total - total // 2) * 2
    plain = F.conv2d(F.pad(x, sides), module.weight, dilation=dilation, groups=4)
    found = module(x)
    assert found.shape == x.shape and torch.allclose(found, plain, atol=1e-12)
    for one, other in zip(
        gradients(x, module.weight, found), gradients(x, module.weight, plain), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_places_are_split_and_joined_again(size):
    x = torch.randn(3, 4, *size)
    parts = space_to_batch(x)
    assert parts.shape == (12, 4, (size[0] + 1) // 2, (size[1] + 1) // 2)
    assert torch.equal(parts[:3, :, 1, 1], x[:, :, 2, 2])
    assert torch.equal(batch_to_space(parts, x.shape), x)
