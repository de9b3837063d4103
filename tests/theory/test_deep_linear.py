import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from nascore.theory.deep_linear import DEPTHS, learning_curve, learning_time, train_chain


@pytest.mark.parametrize("depth", [*DEPTHS, 4, 7])
def test_closed_form_solves_its_equation(depth):
    """Against a numerical solution of da/dt = D a^(2 - 2/D) (s - a), to 1e-6."""
    strength, start, times = 1.7, 0.01, np.linspace(0, 6, 30)
    solution = solve_ivp(
        lambda t, a: depth * a ** (2 - 2 / depth) * (strength - a),
        (0, 6),
        [start],
        t_eval=times,
        rtol=1e-9,
        atol=1e-12,
    )
    assert np.allclose(learning_curve(times, depth, strength, start), solution.y[0], atol=1e-6)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_trained_chain_follows_the_closed_form_up_to_an_error_of_order_lr(depth):
    """Half the learning rate, half the error (to 10 percent): the error is that of descent."""
    strengths, start, errors = (2.0, 1.0), 0.01, []
    for lr in (0.02, 0.01):
        steps = int(8 / lr)
        generator = torch.Generator().manual_seed(0)
        measured = train_chain(depth, strengths, start, lr, steps, generator)[:, 0]
        times = lr * np.arange(steps + 1)
        exact = [learning_curve(times, depth, s, start) for s in strengths]
        errors.append(np.abs(measured - np.stack(exact, axis=1)).max())
    assert errors[0] < 0.1
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.1)


def test_deeper_chains_learn_later():
    half = [learning_time(0.5, depth, 1.0, 1e-3) for depth in DEPTHS]
    assert half == sorted(half)
    assert learning_curve([1e9], 2, 1.0, 1e-3) == 1.0


def test_the_elementary_forms_on_the_page_are_the_closed_form():
    s, a, start = 1.7, np.array([0.02, 0.5, 1.3, 1.699]), 0.01
    r = s ** (1 / 3)

    def three(a):
        w = a ** (1 / 3)
        angle = np.sqrt(3) * np.arctan((2 * w + r) / (np.sqrt(3) * r))
        logs = np.log(np.sqrt(w * w + r * w + r * r) / (r - w))
        return -1 / (s * w) + (logs - angle) / (3 * r * s)

    written_out = {
        1: np.log((s - start) / (s - a)),
        2: np.log(a * (s - start) / (start * (s - a))) / (2 * s),
        3: three(a) - three(start),
    }
    for depth, expected in written_out.items():
        assert np.allclose(learning_time(a, depth, s, start), expected, rtol=1e-9)


def test_the_pair_follows_its_curve_and_ends_where_it_says(notebook_cells):
    page = notebook_cells("training", "training-04", "training-pair")
    w, lr = 0.1, 1e-2
    for strength in (2.0, 1.0):
        trained = page["train_pair"](strength, w, lr, 1500)
        expected, end = page["pair_weights"](trained["b"], w), page["pair_end"](strength, w)
        for name in "abcv":
            assert trained[name].shape == (1501,)
            assert np.abs(trained[name] - expected[name]).max() < lr
            assert trained[name][-1] == pytest.approx(end[name], abs=lr)
        assert end["b"] > 3 * end["a"] * end["c"]  # the wide path has learned it
