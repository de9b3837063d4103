import pytest
import torch
import torch.nn.functional as F

from nascore import SearchSpace
from nascore.frameworks import FRAMEWORKS, build_framework
from nascore.mask import Mask
from nascore.streams import stream


def one_hot_mask(space, names):
    """The mask of a wiring."""
    active = [[space.operations.index(name)] for name in names]
    weight = F.one_hot(torch.tensor(active).squeeze(1), len(space.operations)).double()
    return Mask(weight, weight, active, one_hot=True)


def test_eight_cells_without_reduction(supernet, batch):
    net = supernet(cells=8, channels=4)
    sizes = []
    for cell in net.cells:
        cell.register_forward_hook(lambda module, args, output: sizes.append(output.shape[1:]))
    mask = build_framework("darts", net.space).draw(torch.zeros(5, 8).double())
    assert net(batch[0], mask).shape == (12, 5)
    assert sizes == [(8, 6, 6)] * 8
    assert net.stem[0].out_channels == 12
    assert net.classifier.bias is None


def test_forward_is_the_formula(supernet, batch, alpha):
    """x_j = sum_i sum_k Z[i,j,k] O[i,j,k](x_i), written out with a plain loop."""
    net, a = supernet(), alpha()
    space = net.space
    mask = build_framework("darts", space).draw(a)
    z = a.softmax(dim=1)
    x = net.stem(batch[0])
    sources = [x, x]
    for cell in net.cells:
        nodes = [module(s) for module, s in zip(cell.preprocess, sources, strict=True)]
        for j in (2, 3):
            total = 0
            for e, (i, target) in enumerate(space.edges):
                if target == j:
                    for k in range(1, 8):
                        total = total + z[e, k] * cell.operations[e][str(k)](nodes[i])
            nodes.append(total)
        sources = [sources[1], torch.cat(nodes[2:], dim=1)]
    expected = net.classifier(sources[1].mean(dim=(2, 3)))
    assert torch.allclose(net(batch[0], mask), expected, atol=1e-12)


def test_a_one_hot_mask_equals_the_dense_formula_with_the_same_weights(supernet, batch):
    """Outputs, theta gradients and cost of the discrete path, against the dense one, to 1e-10."""
    net = supernet()
    names = ["sep_conv_3x3", "none", "max_pool_3x3", "skip_connect", "dil_conv_5x5"]
    discrete = one_hot_mask(net.space, names)
    dense = Mask(discrete.weight, discrete.score, net.space.choices, one_hot=False)
    results = []
    for mask in (discrete, dense):
        net.zero_grad()
        logits = net(batch[0], mask)
        F.cross_entropy(logits, batch[1]).backward()
        theta = [p.grad if p.grad is not None else torch.zeros_like(p) for p in net.parameters()]
        results.append((logits.detach(), mask.cost(), *theta))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_who_gets_a_gradient(name, supernet, batch, alpha):
    """Theta of unsampled operations has none in a discrete framework; in a dense one all have."""
    net, a = supernet(), alpha()
    mask = build_framework(name, net.space).draw(a, stream(3, "mask"))
    F.cross_entropy(net(batch[0], mask), batch[1]).backward()
    for cell in net.cells:
        for e, operations in enumerate(cell.operations):
            for k, module in operations.items():
                for p in module.parameters():
                    assert (p.grad is not None) == (int(k) in mask.active[e])
    assert all(p.grad is not None and (p.grad != 0).any() for p in net.classifier.parameters())


def test_only_sampled_operations_run(supernet, batch):
    net = supernet()
    names = ["sep_conv_3x3", "none", "avg_pool_3x3", "none", "dil_conv_3x3"]
    ran = []
    for cell in net.cells:
        for e, operations in enumerate(cell.operations):
            for k, module in operations.items():
                module.register_forward_hook(lambda *_, e=e, k=k: ran.append((e, int(k))))
    net(batch[0], one_hot_mask(net.space, names))
    assert ran == [(0, 4), (2, 3), (4, 5)] * 2


def test_nothing_runs_behind_a_node_that_nothing_reaches(supernet, batch):
    net = supernet()
    ran = []
    for cell in net.cells:
        for module in cell.operations[4].values():  # edge (2,3)
            module.register_forward_hook(lambda *_: ran.append(1))
    net(batch[0], one_hot_mask(net.space, ["none", "none", "skip_connect", "none", "sep_conv_3x3"]))
    assert not ran


def test_a_mask_of_only_none_is_legal(supernet, batch):
    net = supernet()
    mask = one_hot_mask(net.space, ["none"] * 5)
    loss = F.cross_entropy(net(batch[0], mask), batch[1])
    loss.backward()
    assert loss.item() == pytest.approx(torch.tensor(5.0).log().item())
    assert torch.equal(mask.cost(), torch.zeros(2, 5, 8, dtype=torch.float64))


def test_output_nodes_and_one_input(supernet, batch, alpha):
    space = SearchSpace(nodes=2, inputs=1, output_nodes=[2])
    net = supernet(space, channels=4)
    mask = build_framework("darts", space).draw(alpha(space))
    assert net(batch[0], mask).shape == (12, 5)
    assert net.classifier.in_features == 4
