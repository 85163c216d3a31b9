import torch
from torch import nn
from torch.nn.functional import interpolate, pixel_shuffle


class Block(nn.Module):
    """A residual bottleneck."""

    def __init__(self, channels):
        super().__init__()
        narrow = max(channels // 4, 1)
        self.conv1, self.bn1 = nn.Conv2d(channels, narrow, 1, bias=False), nn.BatchNorm2d(narrow)
        self.conv2, self.bn2 = nn.Conv2d(narrow, narrow, 3, padding=1, bias=False), nn.BatchNorm2d(narrow)
        self.conv3, self.bn3 = nn.Conv2d(narrow, channels, 1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + x)


class Stage(nn.Module):
    """Twice the side, beside the encoder's map of that side."""

    def __init__(self, channels, skip, width, upsampling):
        super().__init__()
        self.upsampling = upsampling
        self.up = nn.Conv2d(channels, width * (4 if upsampling == "sub_pixel" else 1), 1)
        self.reduce, self.bn = nn.Conv2d(width + skip, width, 1, bias=False), nn.BatchNorm2d(width)
        self.block = Block(width)

    def forward(self, x, skip):
        x = self.up(x)
        if self.upsampling == "sub_pixel":
            x = pixel_shuffle(x, 2)
        else:
            x = interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.block(torch.relu(self.bn(self.reduce(torch.cat([x, skip], dim=1)))))


class MaskingModel(nn.Module):
    """Feature maps [B,C_i,H_i,W_i] of the taps and a class [B] for each image to raw maps [B,1,h,w]."""

    def __init__(self, channels, classes, class_selector, width, activation, upsampling, confidence, sides=None):
        super().__init__()
        self.activation, self.confidence = activation, confidence
        self.selector = nn.Embedding(classes, channels[-1]) if class_selector else None
        stages, x = [], channels[-1]
        for i, skip in reversed(list(enumerate(channels[:-1]))):
            stages.append(Stage(x, skip, width * 2**i, upsampling))
            x = width * 2**i
        self.stages = nn.ModuleList(stages)
        self.output = nn.Conv2d(x, 2 if activation == "ratio" else 1, 1)

    def forward(self, features, classes):
        x = features[-1]
        if self.selector is not None:
            scores = torch.einsum("bchw,bc->bhw", x, self.selector(classes))
            x = x * torch.sigmoid(scores - self.confidence)[:, None]
        for stage, skip in zip(self.stages, reversed(features[:-1])):
            x = stage(x, skip)
        x = self.output(x)
        if self.activation == "sigmoid":
            return x / 2
        u, v = x.abs().add(1e-5).log().split(1, dim=1)
        return u - v


def heat_map(raw):
    """The mask."""
    return torch.sigmoid(raw)
