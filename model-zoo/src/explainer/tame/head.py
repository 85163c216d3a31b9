import torch
from torch import nn
from torch.nn.functional import interpolate


class Head(nn.Module):
    """Feature maps [B,C_i,H_i,W_i] of the taps to one raw map a class [B,K,h,w]."""

    def __init__(self, channels, classes, map_size, branches=True, fuse_bias=True, upsampling="resize"):
        super().__init__()
        self.map_size = tuple(map_size)
        self.upsampling = upsampling
        self.convs = nn.ModuleList(nn.Conv2d(c, c, 1) for c in channels if branches)
        self.bns = nn.ModuleList(nn.BatchNorm2d(c) for c in channels if branches)
        self.fuser = nn.Conv2d(sum(channels), classes, 1, bias=fuse_bias)

    def forward(self, features):
        if len(self.convs) > 0:
            branches = zip(features, self.convs, self.bns)
            features = [torch.relu(x + bn(conv(x))) for x, conv, bn in branches]
        return self.fuser(torch.cat([self.upsample(x) for x in features], dim=1))

    def upsample(self, x):
        while self.upsampling == "doubling" and x.shape[2] < self.map_size[0]:
            x = interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return interpolate(x, self.map_size, mode="bilinear", align_corners=False)


def heat_map(raw):
    """Each map stretched to 0..1 on its own."""
    low, high = raw.amin((2, 3), keepdim=True), raw.amax((2, 3), keepdim=True)
    return (raw - low) / (high - low).clamp_min(1e-8)
