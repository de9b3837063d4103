"""The check of gradients before a search on a GPU, on a CPU with operations that are wrong."""

import pytest
import torch
from torch._dynamo.utils import counters

from nascore import SearchConfig, search
from nascore.errors import ConfigError
from nascore.runs import Search, gradients, loop


class Wrong(torch.autograd.Function):
    """The identity. In float32 its gradient is off, in both layouts or when channels are first."""

    @staticmethod
    def forward(ctx, x, everywhere):
        ctx.wrong = x.dtype == torch.float32 and (everywhere or x.stride(1) != 1)
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 + 0.05 * ctx.wrong), None


class Through(torch.nn.Module):
    def __init__(self, channels, everywhere):
        super().__init__()
        self.conv, self.everywhere = torch.nn.Conv2d(channels, channels, 1), everywhere

    def forward(self, x):
        return Wrong.apply(self.conv(x), self.everywhere)


def wrong_gradient(channels, norm):
    return Through(channels, True)


def wrong_when_first(channels, norm):
    return Through(channels, False)


def config(**settings):
    base = dict(dataset="digits", train_examples=64, augment=False, cells=3, channels=4)
    return SearchConfig(**{**base, "batch_size": 32, "epochs": 1, **settings})


def with_operation(name, **settings):
    name = f"{__name__}:{name}"
    return config(operations=("none", "skip_connect", name), channels_last=False, **settings)


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("framework", ["dsnas", "darts", "pcdarts"])
def test_right_gradients_pass(framework, amp):
    gradients.check_gradients(Search(config(framework=framework, amp=amp)))


def test_nothing_is_compiled_for_the_check():
    counters.clear()
    gradients.check_gradients(Search(config(compile=True)))
    assert not counters["stats"]


def test_images_of_three_channels_pass_and_a_network_that_cannot_learn():
    gradients.check_gradients(Search(config(dataset="synthetic")))
    gradients.check_gradients(Search(config(norm="instance")))


def test_wrong_gradients_are_named_with_what_helps():
    for name in ("wrong_gradient", "wrong_when_first"):
        with pytest.raises(ConfigError, match=f"^gradients are wrong on cpu with.*:{name}") as told:
            gradients.check_gradients(Search(with_operation(name)))
        assert "Try channels_last=True," in str(told.value)
        assert "skip_connect" not in str(told.value)
    gradients.check_gradients(
        Search(with_operation("wrong_when_first").replace(channels_last=True))
    )


def test_a_search_on_a_gpu_checks_first_and_its_bits_stay(monkeypatch):
    plain = search(config(), progress=False)
    wrong = with_operation("wrong_gradient")
    search(wrong, progress=False)  # a CPU is not checked
    monkeypatch.setattr(loop, "CHECKED", ("cpu",))
    checked = search(config(), progress=False)
    assert checked.history.drop_vars("seconds").equals(plain.history.drop_vars("seconds"))
    with pytest.raises(ConfigError, match="gradients are wrong"):
        search(wrong, progress=False)
