"""The profiles, and the settings that experiments start from: fields of SearchConfig by profile.

What a profile leaves out keeps the default of SearchConfig, which is the authors' protocol.
"""

PROFILES = ("smoke", "laptop", "colab", "published", "paper")
"""smoke: seconds, for tests; decides nothing. laptop: digits, minutes on two cores. colab:
Fashion-MNIST, at most ten minutes a page on a free GPU, by an estimate that is a test. published:
the same for longer, hours on two cores; its records come with the book. paper: the authors'
protocol, on a GPU."""

SEEDS = {"smoke": 2, "laptop": 8, "colab": 8, "published": 8, "paper": 3}
"""Seeds of each arm."""
PICTURE_SEEDS = SEEDS | {"published": 16}
"""The same for the phenomena."""
FEWER_SEEDS = {"smoke": 2, "laptop": 2, "colab": 2, "published": 3, "paper": 1}
"""The same where no claim is tested: where settings are compared, or an identity is checked."""

_SMALL_DATA = dict(augment=False, alpha_mean=0.0)
_DIGITS = _SMALL_DATA | dict(dataset="digits")
_FASHION = _SMALL_DATA | dict(dataset="fashion-mnist", image_size=14, alpha_std=0.0)

PICTURE = {
    "smoke": _DIGITS | dict(cells=1, channels=4, batch_size=48, train_examples=96, epochs=2),
    "laptop": _DIGITS
    | dict(image_size=5, alpha_std=0.0, cells=1, channels=16, batch_size=48, lr=2.0, arch_lr=0.02)
    | dict(train_examples=1152, epochs=60, seed=24),
    "published": _FASHION
    | dict(cells=1, channels=16, lr=0.3, arch_lr=0.01)
    | dict(train_examples=2400, valid_examples=480, epochs=60, seed=24),
    "paper": {},
}
PICTURE["colab"] = PICTURE["published"] | dict(epochs=24, arch_lr=0.025)  # alpha goes as far
"""Searches on one level in which all three phenomena are looked for."""


FEWER = {
    "smoke": (48, 48, 0),
    "laptop": (144, 960, 0),
    "colab": (480, 2400, 2400),
    "published": (480, 2400, 2400),
    "paper": (25_000, 25_000, 0),
}
"""Numbers of examples where the level is switched: those of theta, those of alpha on two levels,
and how many of these one level watches all the same."""

UNIFORM = PICTURE | {"laptop": PICTURE["laptop"] | dict(epochs=15)}
"""The same under uniform masks, in which only theta learns."""

EXPLORED = PICTURE | {
    "laptop": PICTURE["laptop"] | dict(epochs=6, seed=0),
    "colab": PICTURE["colab"] | dict(epochs=12, seed=100),
    "published": PICTURE["published"] | dict(seed=100),
}
"""The same searches on seeds that no test counts."""

ELSEWHERE = {"published": EXPLORED["published"]}
"""The same where only the book's records are looked at."""

SMALL = {
    "smoke": PICTURE["smoke"] | dict(cells=2),
    "laptop": _DIGITS
    | dict(cells=2, channels=8, epochs=6, lr=0.2, arch_lr=0.01, train_examples=576),
    "published": _FASHION
    | dict(cells=4, channels=8, epochs=30, lr=0.05, arch_lr=0.03, train_examples=960),
    "paper": {},
}
SMALL["colab"] = SMALL["published"] | dict(seed=100)
"""Smaller searches in several cells, to check an identity."""

IN_DARTS = {
    "smoke": PICTURE["smoke"] | dict(framework="darts", search_examples=96),
    "published": _FASHION
    | dict(image_size=8, framework="darts", cells=1, channels=16, lr=0.05, arch_lr=0.01)
    | dict(batch_size=48, epochs=400, train_examples=144, search_examples=960, seed=24),
    "paper": dict(framework="darts", train_examples=25_000, search_examples=25_000, epochs=50)
    | dict(alpha_mean=0.0, alpha_std=1e-3, cost_clamp=None, arch_grad_clip=None),
}
"""DARTS on two levels, where the paper saw the failure."""

FIRST = {
    "published": _FASHION
    | dict(cells=8, channels=16, epochs=40, lr=0.05, arch_lr=0.03)
    | dict(train_examples=2400, valid_examples=480)
}
"""What the book showed before, on seeds 0 to 7."""
