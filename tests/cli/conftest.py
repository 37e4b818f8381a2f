"""A made document of `laurel analyze`: ResNet-50 as it is, with names that attack every format."""

import pytest

HOSTILE = "[red]a|b`c`<script>alert(1)</script>\x1b[31m\n=cmd()\u202e\\input{x}"


@pytest.fixture
def hostile():
    return HOSTILE


def check(counter, macs, agrees, **more):
    base = {"counter": counter, "macs": macs, "parameters": 1, "agrees": agrees, "differences": [], "note": ""}
    return base | more


def arm(name, parameters, added, percent, flops, **more):
    base = {
        "name": name,
        "spec": None,
        "parameters": parameters,
        "added_parameters": added,
        "added_parameters_percent": percent,
        "macs": flops // 2,
        "flops": flops,
        "added_flops": flops - 8_178_368_512,
        "added_elementwise_flops": 5_519_360,
        "bytes_moved": 1_234_567_890,
        "saved_activation_bytes": 90_494_976,
        "history_bytes": 0,
        "added_macs": flops // 2 - 4_089_184_256,
        "kernels": 174,
        "uncounted": [],
        "coverage": 1.0,
        "checks": [check("fvcore", flops // 2, True)],
        "note": "",
        "fewer_than_naive": None,
        "paper": None,
    }
    return base | more


@pytest.fixture
def document(hostile):
    return {
        "schema": "laurel.analyze/1",
        "command": f"laurel analyze {hostile}",
        "model": {
            "reference": "resnet50",
            "source": "torchvision 0.29.2",
            "parameters": 25_557_032,
            "trainable_parameters": 25_557_032,
            "input": "x: float32 [1, 3, 224, 224]",
            "blocks": 16,
            "notes": [hostile],
        },
        "connections": [
            {"name": "layer1.0.add", "kind": "projection", "width": 256, "shape": [1, 256, 56, 56]}
            | {"stream": 0, "block": "layer1.0"},
            {"name": hostile, "kind": "identity", "width": 256, "shape": [1, 256, 56, 56]}
            | {"stream": 0, "block": "layer1.1"},
        ],
        "refused": [{"name": hostile, "reason": f"the skip is no ancestor: {hostile}"}],
        "arms": [
            arm("baseline", 25_557_032, 0, 0.0, 8_178_368_512),
            arm("naive+1", 26_674_216, 1_117_184, 4.371337, 8_614_576_128, note="repeats layer3.5"),
            arm(
                "rw",
                25_557_064,
                32,
                100 * 32 / 25_557_032,
                8_178_368_512,
                fewer_than_naive=34_912.0,
                paper={"added_percent": 0.003, "remark": "the paper's figure differs: 32 scalars are 0.000125 %"},
            ),
            arm("rw+lr@16", 26_040_328, 483_296, 1.891049, 8_281_128_960, fewer_than_naive=2.311593),
            arm(
                hostile,
                1,
                1,
                float("nan"),
                2,
                added_flops=-7,
                uncounted=[{"operator": hostile, "calls": 3}],
                coverage=0.9825,
                checks=[
                    check("thop", 3, False, differences=[{"operator": hostile, "macs": 1_234_567, "theirs": 0}]),
                    check("fvcore", None, False, note=f"could not run: {hostile}"),
                ],
            ),
            {"name": "naive+2", "spec": None, "parameters": None, "checks": [], "note": "nothing to repeat"},
        ],
        "warnings": ["3 operators that no counter knows"],
    }
