"""Train the three small models of `models/` on scikit-learn's digits and export them to ONNX.

The data: 1,797 grey images of 8x8 pixels, values 0 to 16, ten classes (sklearn.datasets.load_digits,
from the UCI "Optical Recognition of Handwritten Digits" test set). A fifth, stratified, is held out of
training and written beside each model, so that an accuracy can be computed on files alone.

    digits-cnn          convolutions with batch normalization, pixels [batch, 1, 8, 8]
    digits-transformer  the eight rows as tokens, pre-norm encoder, pixels [batch, 8, 8]
    digits-rnn          an LSTM that reads the rows from top to bottom, pixels [batch, 8, 8]

Each writes NAME.onnx (input `pixels`, output `logits`, symbolic batch) and NAME.npz (arrays `pixels`,
`labels`). Seeds are fixed; a rerun with the same versions on the same kind of processor gives the same files.

Usage: python tools/train_digits.py [--out models]      (about a minute; tools/requirements-zoo.txt)
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SEED = 0


class Cnn(nn.Module):
    """Two strided stages of convolution, batch normalization and ReLU; mean over space; one linear layer."""

    def __init__(self):
        super().__init__()
        channels = [1, 16, 32, 48]
        layers = []
        for i, stride in enumerate([1, 2, 2]):
            layers += [
                nn.Conv2d(channels[i], channels[i + 1], 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(channels[i + 1]),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels[-1], 10)

    def forward(self, pixels):
        return self.head(self.features(pixels).mean(dim=(2, 3)))


class Block(nn.Module):
    """One pre-norm encoder block: self-attention and a GELU network, each added to its input."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_network = nn.LayerNorm(width)
        self.network = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        tokens, width = x.shape[1], x.shape[2]
        qkv = self.query_key_value(self.norm_attention(x))
        qkv = qkv.reshape(-1, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        x = x + self.project(attended.transpose(1, 2).reshape(-1, tokens, width))
        return x + self.network(self.norm_network(x))


class Transformer(nn.Module):
    """The rows of the image as eight tokens with learned positions, two blocks, mean over tokens."""

    def __init__(self, width=48, heads=4):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.positions = nn.Parameter(torch.randn(8, width) * 0.02)
        self.blocks = nn.Sequential(Block(width, heads), Block(width, heads))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, pixels):
        x = self.blocks(self.embed(pixels) + self.positions)
        return self.head(self.norm(x).mean(dim=1))


class Rnn(nn.Module):
    """A bidirectional LSTM over the rows; the class is read from the states at both ends."""

    def __init__(self, width=48):
        super().__init__()
        self.lstm = nn.LSTM(8, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, pixels):
        states, _ = self.lstm(pixels)
        half = states.shape[2] // 2
        return self.head(torch.cat([states[:, -1, :half], states[:, 0, half:]], dim=1))


def train(model, pixels, labels, epochs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    batches = -(-len(pixels) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, epochs * batches)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(pixels)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(pixels[chosen]), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    model.eval()


def accuracy(logits, labels):
    return float((np.asarray(logits).argmax(axis=1) == np.asarray(labels)).mean())


def export(model, pixels, path, optimize):
    # Batch 2 while tracing: the exporter would treat a batch of 1 as a constant.
    torch.onnx.export(
        model,
        (pixels[:2],),
        path,
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
        external_data=False,
        optimize=optimize,
        verbose=False,
    )
    # The exporter records in every node the source lines it came from: twice the size, and paths of this machine.
    proto = onnx.load(path)
    for node in [*proto.graph.node, *(n for f in proto.functions for n in f.node)]:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer]:
        del value.metadata_props[:]
        value.doc_string = ""
    del proto.graph.metadata_props[:]
    del proto.metadata_props[:]
    proto.graph.doc_string = proto.doc_string = ""
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "models")
    out = parser.parse_args().out
    # The number of threads decides the order of sums, so the last bits of the weights.
    torch.set_num_threads(2)
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)
    labels = digits.target.astype(np.int64)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=SEED
    )
    kinds = {
        "cnn": (Cnn, (-1, 1, 8, 8), 40),
        "transformer": (Transformer, (-1, 8, 8), 40),
        "rnn": (Rnn, (-1, 8, 8), 40),
    }
    for name, (kind, shape, epochs) in kinds.items():
        torch.manual_seed(SEED)
        model = kind()
        train(model, torch.tensor(train_images.reshape(shape)), torch.tensor(train_labels), epochs)
        pixels = test_images.reshape(shape)
        path = out / f"digits-{name}.onnx"
        # The exporter's own optimizer would fold the batch normalization away, and leave nothing to show.
        export(model, torch.tensor(pixels), path, optimize=name != "cnn")
        np.savez_compressed(path.with_suffix(".npz"), pixels=pixels, labels=test_labels)
        with torch.no_grad():
            own = model(torch.tensor(pixels)).numpy()
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (peer,) = session.run(["logits"], {"pixels": pixels})
        parameters = sum(p.numel() for p in model.parameters())
        print(
            f"digits-{name}: {parameters} parameters, {path.stat().st_size} bytes; held-out accuracy "
            f"PyTorch {accuracy(own, test_labels):.4f}, ONNX Runtime {accuracy(peer, test_labels):.4f} "
            f"of {len(test_labels)} images; largest difference {np.abs(own - peer).max():.1e}"
        )


if __name__ == "__main__":
    main()
