import pytest
import torch

from nascore import SearchConfig
from nascore.fast import layout as layouts
from nascore.fast.layout import concatenate, laid_out
from nascore.runs import Search

LAYOUTS = [torch.channels_last, torch.contiguous_format]


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("dataset", ["digits", "synthetic"])  # of one and of three channels
@pytest.mark.parametrize("framework", ["darts", "dsnas"])
def test_one_layout_holds_in_the_whole_network(framework, dataset, last, monkeypatch):
    """In every output of a module and in every gradient, as on a GPU: cuDNN goes by the strides."""
    monkeypatch.setattr(layouts, "AS_RECORDED", ())
    config = SearchConfig(framework=framework, dataset=dataset, cells=2, channels=8, batch_size=32)
    search = Search(config.replace(channels_last=last, augment=False, train_examples=64))
    seen, wrong = [], []

    def check(x, what):
        seen.append(what)
        if x.dim() == 4 and x.stride(1 if last else 3) != 1:
            wrong.append(what)

    def hook(module, inputs, output):
        name = type(module).__name__
        check(output, f"output of {name}")
        if output.requires_grad and module is not search.supernet.cells[-1]:  # the mean's: turned
            output.register_hook(lambda gradient: check(gradient, f"gradient of {name}"))

    for module in search.supernet.modules():
        module.register_forward_hook(hook)
    for _ in range(4):
        search.step(search.batch())
    assert wrong == [] and any(what.startswith("gradient") for what in seen)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_strides_tell_the_layout_also_of_a_single_channel(channels, layout):
    for made in LAYOUTS:
        x = torch.rand(2, 3, 4, channels).permute(0, 3, 1, 2).contiguous(memory_format=made)
        y = laid_out(x, layout)
        last = (12 * channels, 1, 4 * channels, channels)
        assert y.stride() == (last if layout == torch.channels_last else (12 * channels, 12, 4, 1))
        assert torch.equal(x, y)


@pytest.mark.parametrize("layout", LAYOUTS)
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
