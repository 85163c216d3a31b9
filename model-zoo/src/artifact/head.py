import torch
from torch import nn
from torch.nn.functional import interpolate


class Head(nn.Module):
    """Feature maps [B,C_i,H_i,W_i] of the taps to one raw map a class [B,K,h,w]."""

    def __init__(self, channels, classes, map_size, branches=True, fuse_bias=True):
        super().__init__()
        self.map_size = tuple(map_size)
        self.convs = nn.ModuleList(nn.Conv2d(c, c, 1) for c in channels if branches)
        self.bns = nn.ModuleList(nn.BatchNorm2d(c) for c in channels if branches)
        self.fuser = nn.Conv2d(sum(channels), classes, 1, bias=fuse_bias)

    def forward(self, features):
        if len(self.convs) > 0:
            branches = zip(features, self.convs, self.bns)
            features = [torch.relu(x + bn(conv(x))) for x, conv, bn in branches]
        resized = [interpolate(x, self.map_size, mode="bilinear", align_corners=False) for x in features]
        return self.fuser(torch.cat(resized, dim=1))


def heat_map(raw):
    """Each map stretched to 0..1 on its own."""
    low, high = raw.amin((2, 3), keepdim=True), raw.amax((2, 3), keepdim=True)
    return (raw - low) / (high - low).clamp_min(1e-8)
