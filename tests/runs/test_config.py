import copy
import json
import pickle

import pytest

from nascore import SearchConfig
from nascore.errors import ConfigError
from nascore.frameworks import SNAS


def test_defaults_are_the_authors_protocol():
    config = SearchConfig()
    assert (config.framework, config.level, config.dataset) == ("dsnas", "single", "cifar10")
    assert (config.epochs, config.batch_size, config.cells, config.channels) == (150, 96, 8, 16)
    assert (config.lr, config.lr_min, config.momentum, config.weight_decay) == (
        0.025,
        0.001,
        0.9,
        3e-4,
    )
    assert (config.arch_lr, config.arch_weight_decay, config.alpha_mean) == (3e-4, 1e-3, 1.0)
    assert (config.grad_clip, config.cost_clamp, config.arch_grad_clip) == (5.0, 5.0, 10.0)
    assert config.sizes == {"train": 50_000, "search": 0, "valid": 0}


def test_bilevel_halves_the_training_set_by_default():
    sizes = SearchConfig(level="bi").sizes
    assert sizes == {"train": 25_000, "search": 25_000, "valid": 0}
    assert SearchConfig(level="bi", dataset="digits", train_examples=1000).sizes["search"] == 797


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"framework": "dart"}, "unknown framework 'dart'. Did you mean 'darts'"),
        ({"dataset": "cifar"}, "unknown dataset 'cifar'. Did you mean 'cifar10'"),
        ({"operations": ["no_such_module:mine"]}, "there is no module 'no_such_module'"),
        (
            {"operations": ["nascore.engine.space:edge"]},
            "unknown name 'edge'. Did you mean 'edge_name'",
        ),
        ({"operations": ["nonne"]}, "unknown operation 'nonne'. Did you mean 'none'"),
        ({"epoch": 3}, "unknown config field 'epoch'. Did you mean 'epochs'"),
        (
            {"level": "singel"},
            r"unknown level 'singel'. Did you mean 'single'\? Allowed: bi, single",
        ),
        ({"epochs": 0}, "epochs=0: input should be greater than 0"),
        ({"epochs": "many"}, "epochs='many': input should be a valid integer"),
        ({"batch_size": 1}, "batch_size=1: input should be greater than or equal to 2"),
        ({"image_size": 0}, "^image_size=0: input should be greater than 0"),
        ({"image_size": [8]}, r"image_size.1=\[8\]: field required"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"label_noise": 1.5}, "label_noise=1.5"),
        ({"lr": 0.01, "lr_min": 0.1}, "lr_min=0.1 is above lr=0.01"),
        (
            {"dataset": "digits", "train_examples": 1000, "search_examples": 900},
            "train_examples=1000, search_examples=900, valid_examples=0: digits has 1797 in all.",
        ),
        ({"dataset": "digits", "train_examples": 50}, "train_examples=50 is less than one batch"),
        ({"level": "bi", "search_examples": 0}, "search_examples=0 is less than one batch"),
        ({"level": "bi", "search_examples": 50}, "search_examples=50 is less than one batch"),
        ({"search_set": "train"}, "search_set='train' with level='single': there is no search set"),
        ({"search_order": "anew"}, "search_order='anew' with level='single'"),
        (
            {"level": "bi", "search_set": "train", "search_examples": 96},
            "search_examples=96 with search_set='train': alpha learns from the training set",
        ),
        ({"allowed": {"(0,9)": ["none"]}}, r"\(0,9\)'\]: the cell does not have this edge"),
        ({"allowed": {"(0,2)": []}}, "at least one operation"),
        ({"allowed": {5: ["none"]}}, "'?5'? is not an edge"),
        ({"framework_options": {"luck": 2}}, "'dsnas': unknown option 'luck'. Allowed: none"),
        ({"framework": "snas", "framework_options": {"temperature_end": 0}}, "temperature_end=0"),
        ({"framework": SNAS(), "framework_options": {"temperature": 1}}, "give one"),
        ({"framework": "nowhere:GDAS"}, "no module 'nowhere'. It must lie in the working"),
        ({"framework": "json:dumps"}, "'json:dumps': .* inherits from Framework"),
        ({"framework": "json:nothing"}, "'json:nothing': unknown name 'nothing'"),
        ({"order": 3}, "order=3: input should be 1 or 2"),
        ({"order": 2, "level": "bi"}, "order=2 with framework='dsnas' and level='bi'"),
        ({"order": 2, "framework": "darts"}, "order=2 with framework='darts' and level='single'"),
        (
            {"order": 2, "framework": "darts", "level": "bi", "freeze_theta": True},
            "freeze_theta=True with order=2",
        ),
        ({"order": 2, "framework": "darts", "level": "bi", "amp": True}, "amp=True with order=2"),
        ({"output_nodes": [7]}, r"output_nodes=.*7.*choose among"),
        ({"norm": "group", "channels": 6}, "must be 8, 12, 16, ..., not 6"),
        ({"norm": "group", "channels": 4}, "must be 8, 12, 16, ..., not 4"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        SearchConfig(**fields)


def test_all_mistakes_are_named_at_once():
    with pytest.raises(ConfigError, match=r"cells=-1.*\n.*epochs=0"):
        SearchConfig(epochs=0, cells=-1)


def test_edges_may_be_pairs_or_text():
    config = SearchConfig(allowed={(0, 3): ["none"], "(1, 2)": ["none"]})
    assert list(config.allowed) == ["(0,3)", "(1,2)"]


def test_immutable_and_hashable():
    config = SearchConfig(allowed={(2, 3): ["none"]})
    with pytest.raises(Exception, match="frozen"):
        config.epochs = 3
    assert len({config, SearchConfig(allowed={"(2, 3)": ["none"]})}) == 1


def test_a_config_is_a_value():
    options = {"temperature": 0.5}
    config = SearchConfig(framework="snas", framework_options=options, allowed={(2, 3): ["none"]})
    options["temperature"] = 7
    assert config.framework_options == {"temperature": 0.5}
    assert json.loads(json.dumps(config.allowed)) == {"(2,3)": ["none"]}
    copies = [pickle.loads(pickle.dumps(config)), copy.deepcopy(config), config.replace()]
    copies += [SearchConfig.model_validate_json(config.model_dump_json())]
    assert all(other == config and other.address == config.address for other in copies)
    SearchConfig().allowed["(0,2)"] = ("none",)
    assert SearchConfig().allowed == {} != config.allowed
    assert config.hash == "3d2143f32926" and SearchConfig().hash == "44136fa355b3"  # as ever


def test_a_config_of_a_record_is_the_same_value():
    for config in (SearchConfig(), SearchConfig(framework=SNAS(temperature=0.5), dataset="digits")):
        fields = json.loads(config.model_dump_json())
        for meaning in (None, json.loads(json.dumps(config.meaning))):
            recorded = SearchConfig.from_record(fields, meaning)
            assert recorded == config and recorded.hash == config.hash
            assert recorded.sizes == config.sizes and len({recorded, config}) == 1
            assert recorded.replace(seed=3) == config.replace(seed=3)
    with pytest.raises(ConfigError, match="epochs=0: input should be"):
        SearchConfig.from_record({"epochs": 0}, None)
    with pytest.raises(ConfigError, match="without a meaning of a_module:Mine"):
        SearchConfig.from_record({"framework": "a_module:Mine"}, None)


def test_hash_names_the_settings_and_nothing_else():
    one = SearchConfig(epochs=3, cells=2)
    assert one.hash == SearchConfig(cells=2, epochs=3, lr=0.025).hash
    assert one.hash != SearchConfig(cells=2, epochs=3, lr=0.026).hash
    assert len(one.hash) == 12


def test_json_round_trip():
    config = SearchConfig(allowed={"(2,3)": ["none"]}, output_nodes=[3], dataset="digits")
    assert SearchConfig(**json.loads(config.model_dump_json())) == config


def test_a_framework_by_name_and_options_by_class_or_by_value():
    configs = [
        SearchConfig(framework="snas", framework_options={"temperature": 0.5}),
        SearchConfig(framework=SNAS, framework_options={"temperature": 0.5}),
        SearchConfig(framework=SNAS(temperature=0.5)),
    ]
    assert len(set(configs)) == 1 and len({config.hash for config in configs}) == 1
    assert configs[0].make_framework() == SNAS(temperature=0.5)
    assert SearchConfig(framework="snas", framework_options={"temperature": 1.0}).changes == {
        "framework": "snas"
    }


def test_another_framework_starts_without_options():
    config = SearchConfig(framework=SNAS(temperature=0.5))
    assert config.replace(seed=1).framework_options == {"temperature": 0.5}
    assert config.replace(framework="snas").framework_options == {"temperature": 0.5}
    assert config.replace(framework="darts") == SearchConfig(framework="darts")


def test_the_machine_is_no_part_of_an_address():
    config = SearchConfig(framework="darts", dataset="digits")
    machine = {"device": "cpu", "compile": True, "recompute": True, "channels_last": False}
    for name, value in {**machine, "deterministic": True}.items():
        other = config.replace(**{name: value})
        assert other.hash == config.hash and other == config
    assert config.replace(amp=True).hash != config.hash and config.replace(amp=True) != config


def test_replace_checks_like_new():
    config = SearchConfig(dataset="digits")
    assert config.replace(seed=3).seed == 3
    with pytest.raises(ConfigError, match="seed=-1"):
        config.replace(seed=-1)


def test_learning_rate_falls_along_half_a_cosine():
    config = SearchConfig(epochs=10, lr=1.0, lr_min=0.2)
    assert config.learning_rate(1) == 1.0
    assert config.learning_rate(6) == pytest.approx(0.6)
    assert 0.2 < config.learning_rate(10) < 0.25


def test_every_field_is_described():
    assert all(field.description for field in SearchConfig.model_fields.values())
