"""The stem of a ResNet, fitted to small images."""

from __future__ import annotations

from torch import nn

USUAL = 4  # total stride of the stem that timm's and torchvision's ResNets have


def fit_stem(model: nn.Module, stride: int) -> bool:
    """Give a ResNet a stem of another total stride, 1 or 2, in place; other models stay as they are.

    Returns:
        Whether it was changed.
    """
    first, pool = getattr(model, "conv1", None), getattr(model, "maxpool", None)
    if stride == USUAL or not isinstance(pool, nn.MaxPool2d) or not hasattr(model, "layer1"):
        return False
    model.maxpool = nn.Identity()
    if isinstance(first, nn.Sequential):  # three 3 x 3 convolutions, the first of stride 2
        first[0].stride = (stride, stride)  # type: ignore[assignment]
    elif isinstance(first, nn.Conv2d):
        model.conv1 = nn.Conv2d(first.in_channels, first.out_channels, 3, stride, 1, bias=first.bias is not None)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return True
