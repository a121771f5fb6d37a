"""Train what quantization is judged on: a deeper CNN and a small transformer on scikit-learn's digits, five seeds each.

The data and their split are those of train_digits.py. Each model is written as NAME-SEED.onnx (input `pixels`, output
`logits`, symbolic batch); the held-out fifth as NAME.npz and 256 images of the training part as NAME-calibrate.npz.

    deep-cnn     nine residual blocks in three stages, an inverted bottleneck with ReLU6 in each, batch normalization
    transformer  the eight rows as tokens, three pre-norm blocks

Usage: python tools/train_quantize.py --out FOLDER [--seeds 5]      (minutes; tools/requirements-zoo.txt)
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from train_digits import SEED, Block, accuracy, export, train

CALIBRATION = 256


def normalized(inside, outside, kernel, stride=1, groups=1):
    return [
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outside),
    ]


class Bottleneck(nn.Module):
    """1x1 wider, 3x3 depthwise, 1x1 narrower, added to the input where shapes allow."""

    def __init__(self, inside, outside, stride):
        super().__init__()
        wide = 3 * inside
        self.layers = nn.Sequential(
            *normalized(inside, wide, 1),
            nn.ReLU6(),
            *normalized(wide, wide, 3, stride, wide),
            nn.ReLU6(),
            *normalized(wide, outside, 1),
        )
        self.added = inside == outside and stride == 1

    def forward(self, x):
        y = self.layers(x)
        return x + y if self.added else y


class DeepCnn(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [*normalized(1, 12, 3), nn.ReLU()]
        channels = 12
        for outside, stride in [(12, 1), (12, 1), (12, 1), (20, 2), (20, 1), (20, 1), (32, 2), (32, 1), (32, 1)]:
            layers.append(Bottleneck(channels, outside, stride))
            channels = outside
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, 10)

    def forward(self, pixels):
        return self.head(self.features(pixels).mean(dim=(2, 3)))


class SmallTransformer(nn.Module):
    def __init__(self, width=48, heads=4):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.positions = nn.Parameter(torch.randn(8, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(3)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, pixels):
        x = self.blocks(self.embed(pixels) + self.positions)
        return self.head(self.norm(x).mean(dim=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=25)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    # The number of threads decides the order of sums, so the last bits of the weights; and layers this small gain nothing from two.
    torch.set_num_threads(1)
    digits = load_digits()
    images, labels = (digits.images / 16.0).astype(np.float32), digits.target.astype(np.int64)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=SEED
    )
    for name, kind, shape in [("deep-cnn", DeepCnn, (-1, 1, 8, 8)), ("transformer", SmallTransformer, (-1, 8, 8))]:
        pixels = test_images.reshape(shape)
        np.savez(arguments.out / f"{name}.npz", pixels=pixels, labels=test_labels)
        some = train_images[:CALIBRATION].reshape(shape)
        np.savez(arguments.out / f"{name}-calibrate.npz", pixels=some, labels=train_labels[:CALIBRATION])
        for seed in range(arguments.seeds):
            torch.manual_seed(seed)
            model = kind()
            train(model, torch.tensor(train_images.reshape(shape)), torch.tensor(train_labels), arguments.epochs)
            export(model, torch.tensor(pixels), arguments.out / f"{name}-{seed}.onnx", optimize=True)
            with torch.no_grad():
                right = accuracy(model(torch.tensor(pixels)).numpy(), test_labels)
            print(f"{name}-{seed}: held-out accuracy {right:.4f}", flush=True)


if __name__ == "__main__":
    main()
