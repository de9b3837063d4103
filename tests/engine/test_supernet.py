import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nascore import SearchSpace, Wiring
from nascore.engine.mask import Mask
from nascore.engine.operations import NORMS
from nascore.frameworks import DARTS, Context

KINDS = ("darts", "snas", "dsnas", "proxylessnas", "gdas")
"""One of each kind of mask: dense, random, discrete, with gradient-only operations or a scale."""


def paired(norms):
    """A dense and a discrete framework with every norm, the others with batch normalisation."""
    both = ["darts", "dsnas"]
    return [(n, norm) for n in KINDS for norm in norms if n in both or norm == "batch"]


def one_hot_mask(space, names):
    return Mask.of(Wiring(space, tuple(names)), torch.float64)


def test_eight_cells_without_reduction(supernet, batch, draw):
    net = supernet(cells=8, channels=4)
    sizes = []
    for cell in net.cells:
        cell.register_forward_hook(lambda module, args, output: sizes.append(output.shape[1:]))
    mask = draw("darts", net.space, torch.zeros(5, 8).double())
    assert net(batch[0], mask.weight, mask).shape == (12, 5)
    assert sizes == [(8, 6, 6)] * 8
    assert net.stem[0].out_channels == 12
    assert net.classifier.bias is None


def test_forward_is_the_formula(supernet, batch, alpha, draw):
    """x_j = sum_i sum_k Z[i,j,k] O[i,j,k](x_i), written out with a plain loop."""
    net, a = supernet(), alpha()
    space = net.space
    mask = draw("darts", space, a)
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
    assert torch.allclose(net(batch[0], mask.weight, mask), expected, atol=1e-12)


def test_a_one_hot_mask_equals_the_dense_formula_with_the_same_weights(supernet, batch, measure):
    """Outputs, theta gradients and cost of the discrete path, against the dense one, to 1e-10."""
    net = supernet()
    names = ["sep_conv_3x3", "none", "max_pool_3x3", "skip_connect", "dil_conv_5x5"]
    discrete = one_hot_mask(net.space, names)
    dense = Mask(discrete.weight, discrete.score)
    results = []
    for mask in (discrete, dense):
        net.zero_grad()
        seen = measure(net, batch, mask)
        theta = [p.grad if p.grad is not None else torch.zeros_like(p) for p in net.parameters()]
        results.append((seen.logits, seen.cost, *theta))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("name", ["darts", "dsnas", "proxylessnas"])
def test_recomputing_changes_nothing(name, supernet, batch, alpha, draw):
    """Logits, cost, output cost and theta gradients, to 1e-10; and a second derivative."""
    results = []
    for recompute in (False, True):
        net = supernet(recompute=recompute)
        mask = draw(name, net.space, alpha(), seed=3)
        z = mask.per_cell(2)
        outputs = net.unit_weights(z)
        logits = net(batch[0], z, mask, outputs)
        loss = F.cross_entropy(logits, batch[1])
        theta = [p for (_, e, k), o in net.operations() for p in o.parameters()]
        theta = [net.classifier.weight, net.stem[0].weight, *theta]
        slopes = torch.autograd.grad(loss, theta, create_graph=True, materialize_grads=True)
        total = sum((slope**2).sum() for slope in slopes)
        (twice,) = torch.autograd.grad(total, z, retain_graph=True)
        loss.backward()
        results.append((logits, z.grad, outputs.grad, twice, *slopes))
    assert (twice.abs() > 1e-6).any()
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_recomputing_keeps_only_what_enters_a_cell(supernet, batch, alpha):
    """Bytes that autograd saves in the forward pass, counted."""
    kept = {}
    for recompute in (False, True):
        net, sizes = supernet(cells=4, recompute=recompute), []

        def pack(x, sizes=sizes):
            sizes.append(x.nbytes)
            return x

        mask = DARTS().draw(Context({"alpha": alpha()}))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            net(batch[0], mask.per_cell(4), mask)
        kept[recompute] = sum(sizes)
    assert kept[True] < 0.1 * kept[False]


@pytest.mark.parametrize("name", KINDS)
def test_mixed_precision_is_near_full_precision(name, supernet, batch, alpha, draw):
    """Cost and logits from bfloat16 maps: within the few percent of their 8 bits; z in float32."""
    net = supernet().float()
    results = []
    for amp in (False, True):
        mask = draw(name, net.space, alpha().float(), seed=3)
        z = mask.per_cell(2)
        outputs = net.unit_weights(z)
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            logits = net(batch[0].float(), z, mask, outputs)
        F.cross_entropy(logits.float(), batch[1]).backward()
        results.append((logits.float(), outputs.grad))
        assert z.grad.isfinite().all() and z.grad.dtype == torch.float32
    assert logits.dtype == torch.bfloat16
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=0.1, atol=0.1 * one.detach().abs().max().item())


def test_an_affine_stem_starts_as_the_plain_one_and_learns(supernet, batch, alpha, draw):
    plain, affine = supernet(), supernet(stem_affine=True)
    mask = draw("dsnas", plain.space, alpha())
    z = mask.per_cell(2)
    logits = affine(batch[0], z, mask)
    assert torch.equal(logits, plain(batch[0], z, mask))
    F.cross_entropy(logits, batch[1]).backward()
    scale, shift = affine.stem[-1].parameters()
    assert len(scale) == 12 and (scale.grad != 0).all() and (shift.grad != 0).all()


@pytest.mark.parametrize("name", KINDS)
def test_the_layout_in_memory_changes_nothing(name, supernet, batch, alpha, measure, draw):
    results = []
    for layout in (torch.channels_last, torch.contiguous_format):
        net = supernet().to(memory_format=layout)
        mask = draw(name, net.space, alpha(), seed=3)
        images = batch[0].contiguous(memory_format=layout)
        seen = measure(net, (images, batch[1]), mask)
        results.append((seen.logits, seen.cost, net.stem[0].weight.grad))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("name, norm", paired(NORMS))
def test_who_gets_a_gradient(name, norm, supernet, batch, alpha, measure, draw):
    """Theta of unsampled operations has none in a discrete framework; in a dense one all have.

    What ProxylessNAS only probes has none either. With instance normalisation the gradients that
    arrive are 0: its pooled output is.
    """
    net, a = supernet(norm=norm, channels=8), alpha()
    mask = draw(name, net.space, a, seed=3)
    measure(net, batch, mask)
    for (_, e, k), module in net.operations():
        for p in module.parameters():
            assert (p.grad is not None) == (k in mask.running(net.space)[e])
            if p.grad is not None and norm != "instance":
                assert p.grad.isfinite().all() and (p.grad != 0).any()


@pytest.mark.parametrize("norm", NORMS)
def test_the_normalisation_reaches_every_operation_the_preprocessing_and_the_stem(norm, supernet):
    """One in the stem, two in the preprocessing of a cell, and on each edge 8: 2 after pools, 1 in
    each dil_conv, 2 in each sep_conv."""
    net = supernet(norm=norm, channels=8)
    wanted = {type(build(8)) for build in NORMS.values()} - {nn.Identity}
    found = [type(module) for module in net.modules() if type(module) in wanted]
    number = 0 if norm == "none" else 1 + 2 * (2 + 5 * 8)
    assert found == [type(NORMS[norm](8))] * number
    for module in net.modules():
        if isinstance(module, nn.GroupNorm):
            assert module.num_groups == {"layer": 1, "group": 4}[norm]
        assert getattr(module, "eps", 1e-5) == 1e-5 and not getattr(module, "affine", False)


@pytest.mark.parametrize(
    "first, fourth", [("sep_conv_3x3", "skip_connect"), ("none", "avg_pool_3x3")]
)
def test_a_gradient_only_operation_adds_nothing_and_tells_its_gradient(
    first, fourth, supernet, batch, measure
):
    """The inactive gate of ProxylessNAS: logits and theta gradients as without it, dL/dg as dense.

    In the second case nothing but a gradient-only operation reaches node 2, which (2,3) reads.
    """
    net = supernet()
    names = [first, "none", "max_pool_3x3", fourth, "dil_conv_5x5"]
    plain = one_hot_mask(net.space, names)
    q = plain.weight.clone()
    q[1, 6], q[3, 4] = 0.25, 0.5
    probed = Mask(plain.weight, plain.score, plain.active, True, [(), (6,), (), (4,), ()], q)
    dense = Mask(plain.weight, plain.score, cost_scale=q)
    results = []
    for mask in (plain, probed, dense):
        net.zero_grad()
        seen = measure(net, batch, mask)
        zeros = map(torch.zeros_like, net.parameters())
        theta = [
            z if p.grad is None else p.grad for p, z in zip(net.parameters(), zeros, strict=True)
        ]
        results.append((seen.logits, theta, seen.cost))
    for one, other in zip(results[0][1], results[1][1], strict=True):
        assert torch.allclose(one, other, atol=1e-12)
    assert torch.allclose(results[0][0], results[1][0], atol=1e-12)
    assert torch.allclose(results[1][2], results[2][2], atol=1e-12)
    assert (results[1][2][1, [1, 3], [6, 4]] != 0).all()
    ran = []
    for (_, e, k), module in net.operations():
        module.register_forward_hook(lambda *_, e=e, k=k: ran.append((e, k)))
    net(batch[0], probed.weight, probed)  # nobody asks for the gradient: only what is active runs
    names[4] = "none" if first == "none" else names[4]
    active = [(e, net.space.operations.index(name)) for e, name in enumerate(names)]
    assert sorted(set(ran)) == [(e, k) for e, k in active if k != 0]


def test_only_sampled_operations_run(supernet, batch):
    net = supernet()
    names = ["sep_conv_3x3", "none", "avg_pool_3x3", "none", "dil_conv_3x3"]
    ran = []
    for cell in net.cells:
        for e, operations in enumerate(cell.operations):
            for k, module in operations.items():
                module.register_forward_hook(lambda *_, e=e, k=k: ran.append((e, int(k))))
    mask = one_hot_mask(net.space, names)
    net(batch[0], mask.weight, mask)
    assert ran == [(0, 4), (2, 3), (4, 5)] * 2


def test_nothing_runs_behind_a_node_that_nothing_reaches(supernet, batch):
    net = supernet()
    ran = []
    for cell in net.cells:
        for module in cell.operations[4].values():  # edge (2,3)
            module.register_forward_hook(lambda *_: ran.append(1))
    names = ["none", "none", "skip_connect", "none", "sep_conv_3x3"]
    mask = one_hot_mask(net.space, names)
    net(batch[0], mask.weight, mask)
    assert not ran


def test_a_mask_of_only_none_is_legal(supernet, batch, measure):
    net = supernet()
    mask = one_hot_mask(net.space, ["none"] * 5)
    seen = measure(net, batch, mask)
    assert torch.equal(seen.logits, torch.zeros(12, 5, dtype=torch.float64))
    assert torch.equal(seen.cost, torch.zeros(2, 5, 8, dtype=torch.float64))


def test_output_nodes_and_one_input(supernet, batch, alpha, draw):
    space = SearchSpace(nodes=2, inputs=1, output_nodes=[2])
    net = supernet(space, channels=4)
    mask = draw("darts", space, alpha(space))
    assert net(batch[0], mask.weight, mask).shape == (12, 5)
    assert net.classifier.in_features == 4
