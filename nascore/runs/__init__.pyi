from .algorithm import Search as Search
from .datasets import DATASETS as DATASETS
from .datasets import dataset as dataset
