"""The paper's theorems in numbers, each beside the chapter that quotes it."""

from nascore.theory import topology
from nascore.theory.cost_paths import split_by_path
from nascore.theory.deep_linear import DEPTHS, learning_curve, learning_time, train_chain
from nascore.theory.homogeneity import scale_response, set_eps
from nascore.theory.opportunity import training_opportunity
