"""The paper's theorems in numbers, each beside the chapter that quotes it."""

from typing import TYPE_CHECKING

from nascore.lazy import public_names

if TYPE_CHECKING:
    from nascore.theory import topology as topology
    from nascore.theory.cost_paths import split_by_path as split_by_path
    from nascore.theory.deep_linear import DEPTHS as DEPTHS
    from nascore.theory.deep_linear import learning_curve as learning_curve
    from nascore.theory.deep_linear import learning_time as learning_time
    from nascore.theory.deep_linear import pair_end as pair_end
    from nascore.theory.deep_linear import pair_weights as pair_weights
    from nascore.theory.deep_linear import train_chain as train_chain
    from nascore.theory.deep_linear import train_pair as train_pair
    from nascore.theory.homogeneity import best_temperature as best_temperature
    from nascore.theory.homogeneity import make_affine as make_affine
    from nascore.theory.homogeneity import scale_response as scale_response
    from nascore.theory.homogeneity import set_eps as set_eps
    from nascore.theory.opportunity import count_trained as count_trained
    from nascore.theory.opportunity import training_opportunity as training_opportunity

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
