"""The paper's theorems in numbers, each beside the chapter that quotes it."""

from nascore.theory import topology
from nascore.theory.cost_paths import split_by_path
from nascore.theory.deep_linear import DEPTHS, learning_curve, learning_time, train_chain
