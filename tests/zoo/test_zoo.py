"""A few models of the zoo through the check of the sweep: one of every kind that has been hard."""

from __future__ import annotations

import pytest

from tests.zoo.cases import all_cases
from tests.zoo.check import check, closed_form
from tests.zoo.expected import COUNTS, NONE
from tests.zoo.outside_cases import names

QUICK = [
    "transformers:GPT2LMHeadModel",
    "transformers:FalconForCausalLM",  # parallel branches
    "transformers:BertForMaskedLM",  # post-norm
]
SLOW = [
    "torchvision:resnet18",
    "torchvision:vit_b_32",
    "torchvision:mobilenet_v3_small",
    "torchvision:regnet_x_400mf",
    "torchvision:squeezenet1_1",  # none
    "timm:cait_xxs24_224",  # class tokens
    "timm:res2next50",  # hierarchical splits
    "timm:pvt_v2_b0",
    "timm:skresnet18",
    "timm:starnet_s050",
    "transformers:AlbertForMaskedLM",  # weights shared across depth
    "transformers:BloomForCausalLM",  # sums in a helper function
    "transformers:CLIPModel",
    "transformers:Gemma2ForCausalLM",
    "transformers:GPTJForCausalLM",
    "transformers:LongformerForMaskedLM",  # control flow that depends on values
    "transformers:MambaForCausalLM",
    "transformers:MixtralForCausalLM",
    "transformers:SwinForImageClassification",
    "transformers:T5ForConditionalGeneration",
    "transformers:Wav2Vec2ForCTC",
]
CASES = {case.name: case for case in all_cases()}


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_model(name):
    result = check(CASES[name])
    assert not result.problems
    assert result.connections or name in NONE


def test_expectations_name_models_of_the_sweep():
    assert not (NONE | COUNTS.keys()) - CASES.keys() - names()
    assert len(COUNTS) + len(NONE) >= 40
    assert not NONE & COUNTS.keys()


def test_closed_form_of_nothing():
    assert closed_form("rw+lr+pa", []) == 0
