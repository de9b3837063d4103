import pytest
import torch
import torch.nn.functional as F

from nascore.engine.operations import BUILDERS, NORMS, Depthwise, build_operation
from nascore.errors import ConfigError


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", BUILDERS)
def test_every_operation_keeps_the_shape(name, norm):
    x = torch.randn(3, 8, 7, 7)
    assert build_operation(name, 8, norm)(x).shape == x.shape


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", BUILDERS)
def test_with_a_weight_it_is_the_product(name, norm):
    """``module(x, z)`` against z O(x): output, gradients on x, z and the kernels, to 1e-10."""
    module = build_operation(name, 8, norm).double()
    results = []
    for product in (False, True):
        torch.manual_seed(0)
        x = torch.randn(3, 8, 6, 6, dtype=torch.float64, requires_grad=True)
        z = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        y = z * module(x) if product else module(x, z)
        wanted = (x, z, *module.parameters())
        results.append((y, *torch.autograd.grad(y, wanted, torch.randn(y.shape).double())))
    assert results[0][2] != 0
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("name", sorted(set(BUILDERS) - {"skip_connect"}))
def test_training_and_evaluation_use_the_same_batch_statistics(name):
    x = torch.randn(3, 4, 5, 5)
    module = build_operation(name, 4)
    assert torch.equal(module.train()(x), module.eval()(x))


@pytest.mark.parametrize(
    "name, reach",
    [("sep_conv_3x3", 2), ("dil_conv_3x3", 2), ("dil_conv_5x5", 4), ("sep_conv_5x5", 4)],
)
def test_reach_of_each_convolution(name, reach):
    """The cells of the input that move the centre of the output, measured by its gradient."""
    module = build_operation(name, 2, norm="none").double()
    for weight in module.parameters():
        weight.data.abs_()  # so that no ReLU closes
    x = torch.rand(1, 2, 15, 15, dtype=torch.float64).requires_grad_()
    module(x)[0, :, 7, 7].sum().backward()
    touched = x.grad.abs().sum(dim=(0, 1)).nonzero() - 7
    assert touched.abs().max() == reach


def test_only_convolutions_have_weights_and_none_has_a_bias():
    for name in BUILDERS:
        parameters = dict(build_operation(name, 4).named_parameters())
        assert bool(parameters) == ("conv" in name)
        assert all(p.ndim == 4 for p in parameters.values())


def test_unknown_names():
    with pytest.raises(ConfigError, match="Did you mean 'max_pool_3x3'"):
        build_operation("max_pol_3x3", 4)
    with pytest.raises(ConfigError, match="unknown norm 'bath'"):
        build_operation("max_pool_3x3", 4, "bath")


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (6, 5), (3, 3)])
@pytest.mark.parametrize("kernel, dilation", [(3, 1), (3, 2), (5, 2)])
def test_depthwise_equals_the_plain_convolution(kernel, dilation, size):
    """Output and both gradients, in float64, to 1e-12."""
    module = Depthwise(4, kernel, dilation).double()
    results = []
    for plain in (False, True):
        torch.manual_seed(0)
        x = torch.randn(3, 4, *size, dtype=torch.float64)
        x = x.to(memory_format=torch.channels_last).requires_grad_()
        if plain:
            padding = dilation * (kernel // 2)
            y = F.conv2d(x, module.weight, padding=padding, dilation=dilation, groups=4)
        else:
            y = module(x)
        assert y.shape == x.shape
        gradients = torch.autograd.grad(y, (x, module.weight), torch.randn(y.shape).double())
        results.append((y, *gradients))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-12)
