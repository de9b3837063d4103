"""The profiles, and the settings that experiments start from: fields of SearchConfig by profile.

What a profile leaves out keeps the default of SearchConfig, which is the authors' protocol.
"""

from typing import Any

PROFILES = ("smoke", "laptop", "published", "paper")
"""smoke: seconds, for tests. laptop: digits, minutes on two cores. published: Fashion-MNIST, hours
on two cores; its records come with the book. paper: the authors' protocol, on a GPU."""

SEEDS = {"smoke": 3, "laptop": 3, "published": 8, "paper": 3}
"""Seeds of each arm."""
FEWER_SEEDS = {"smoke": 2, "laptop": 2, "published": 5, "paper": 3}
"""The same where no claim is tested: where settings are compared, or an identity is checked."""

Settings = dict[str, dict[str, Any]]


def _changed(settings: Settings, **changes: dict[str, Any]) -> Settings:
    """The settings with other fields in some profiles."""
    return settings | {profile: settings[profile] | new for profile, new in changes.items()}


_DIGITS = dict(dataset="digits", augment=False, alpha_mean=0.0)
_DATA = {
    "smoke": _DIGITS | dict(cells=2, channels=4, batch_size=48, train_examples=96, epochs=2),
    "laptop": _DIGITS,
    "published": _DIGITS | dict(dataset="fashion-mnist", image_size=14, alpha_std=0.0),
    "paper": {},
}

WIRING = _changed(
    _DATA,
    laptop=dict(cells=4, channels=8, epochs=60, lr=0.2, arch_lr=0.01)
    | dict(train_examples=1152, valid_examples=576),
    published=dict(cells=8, channels=16, epochs=40, lr=0.05, arch_lr=0.03)
    | dict(train_examples=2400, valid_examples=480),
)
"""Single-level searches: growing, width, and what shares their runs."""

SMALL = _changed(
    WIRING,
    laptop=dict(cells=2, epochs=30, train_examples=576, valid_examples=0),
    published=dict(cells=4, channels=8, epochs=30, train_examples=960, valid_examples=0),
)
"""The same searches in smaller networks, for looking across cells, rates and operations."""

ACROSS = _changed(SMALL, laptop=dict(epochs=10), published=dict(epochs=20))
"""Shorter again, because dense frameworks take longer."""

UNIFORM = _changed(
    SMALL,
    laptop=dict(train_examples=1152, lr=0.05),
    published=dict(train_examples=2400, epochs=40, lr=0.03),
)
"""For searches under uniform masks, in which only theta learns."""

_NOISY = dict(framework="darts", cells=4, channels=8, epochs=36, lr=0.05, label_noise=0.6)
FAILURE = _changed(
    _DATA,
    smoke=dict(framework="darts", search_examples=96, label_noise=0.6),
    laptop=_NOISY | dict(train_examples=288, search_examples=288, arch_lr=0.025),
    published=_NOISY | dict(train_examples=480, search_examples=480, arch_lr=0.04),
    paper=dict(framework="darts", train_examples=25_000, search_examples=25_000, epochs=50)
    | dict(alpha_mean=0.0, alpha_std=1e-3, cost_clamp=None, arch_grad_clip=None),
)
"""Searches with as many examples for alpha as for theta, and label noise where it is needed."""
