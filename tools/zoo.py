"""Export the architectures people deploy, with PyTorch, seeded random weights and ONNX Runtime's answers.

There is no download: configurations are built in code. Weights are the library's default initialization;
batch normalization then sees random images in training mode, so that its statistics fit and activations
keep their size, as in a trained network. `zoo_keras.py` exports the Keras model.

Usage: python tools/zoo.py OUT [NAME ...]     (tools/requirements-zoo.txt; without names: all)
"""

import argparse
import gc
import os
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import onnx
import torch
import torchvision
import transformers
import zoo_common
from torch import nn

SEED = 0
HERE = Path(__file__).parent
DIGEST = zoo_common.hash_of(__file__, HERE / "zoo_common.py", HERE / "requirements-zoo.txt")


def image_inputs(size):
    """Noise of the mean and spread of a normalized photograph, smooth enough that pooling does not cancel it."""

    def make(batch):
        random = np.random.default_rng(SEED)
        coarse = random.standard_normal((batch, 3, size // 8, size // 8), dtype=np.float32)
        fine = random.standard_normal((batch, 3, size, size), dtype=np.float32)
        return {"image": coarse.repeat(8, axis=2).repeat(8, axis=3) + 0.3 * fine}

    return make


def token_inputs(vocabulary, tokens, *, masked):
    """Random token ids; with a mask, the last quarter of every second sentence is padding."""

    def make(batch):
        random = np.random.default_rng(SEED)
        ids = random.integers(1, vocabulary, (batch, tokens), dtype=np.int64)
        if not masked:
            return {"input_ids": ids}
        mask = np.ones((batch, tokens), dtype=np.int64)
        mask[::2, tokens - tokens // 4 :] = 0
        types = np.zeros((batch, tokens), dtype=np.int64)
        types[:, tokens // 2 :] = 1
        return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": types}

    return make


def settle(model, size):
    """Give batch normalization statistics that fit: two random batches in training mode, then mild affine noise."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # plain average over the batches seen
        norm.reset_running_stats()
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.normal_(norm.bias, std=0.1)
    model.train()
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.eval()
    with torch.no_grad():
        for _ in range(2):
            images = torch.randn(4, 3, size // 8, size // 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
            model(images)
    return model.eval()


class Segmenter(nn.Module):
    """DeepLab without its dictionary of answers."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        return self.model(image)["out"]


class Encoder(nn.Module):
    """BERT with the three inputs its users feed, and the states of the last layer as its answer."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids):
        answer = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return answer.last_hidden_state


class Prefill(nn.Module):
    """GPT-2 reading a prompt: the scores of the next token at every position."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model(input_ids=input_ids).logits


def classifier(build, size=224):
    def make():
        return settle(build(weights=None), size), image_inputs(size), ["logits"]

    return make


def vision_transformer():
    model = torchvision.models.vit_b_16(weights=None)
    # torchvision starts the last layer at zero, which would make every answer zero.
    nn.init.normal_(model.heads.head.weight, std=0.02)
    nn.init.normal_(model.class_token, std=0.02)
    return model.eval(), image_inputs(224), ["logits"]


def deeplab():
    model = torchvision.models.segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, aux_loss=False
    )
    return Segmenter(settle(model, 128)), image_inputs(128), ["classes"]


class Detector(nn.Module):
    """SSDlite on one image: torchvision takes a list of images and unrolls over it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        found = self.model([image[0]])[0]
        return found["boxes"], found["scores"], found["labels"]


def ssdlite():
    model = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None,
        weights_backbone=None,
        score_thresh=0.02,
        topk_candidates=60,
        detections_per_img=40,
        # The input is already normalized.
        image_mean=[0.0, 0.0, 0.0],
        image_std=[1.0, 1.0, 1.0],
    )
    settle(model.backbone, 320)
    for part in model.head.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_var, 0.8, 1.2)
        if isinstance(part, nn.Conv2d) and part.bias is not None:
            # Scores far enough apart that rounding cannot change which box comes first.
            nn.init.normal_(part.weight, std=0.3)
            nn.init.normal_(part.bias, std=0.5)
    return Detector(model.eval()), image_inputs(320), ["boxes", "scores", "labels"]


def bert(**sizes):
    def make():
        config = transformers.BertConfig(**sizes)
        model = Encoder(transformers.BertModel(config, add_pooling_layer=False)).eval()
        return model, token_inputs(config.vocab_size, 128, masked=True), ["last_hidden_state"]

    return make


def gpt2():
    config = transformers.GPT2Config(use_cache=False)
    model = transformers.GPT2LMHeadModel(config).eval()
    return Prefill(model), token_inputs(config.vocab_size, 64, masked=False), ["logits"]


class Tagger(nn.Module):
    """A part-of-speech tagger: embedding, two bidirectional LSTM layers, a tag score for each token."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10_000, 128)
        self.lstm = nn.LSTM(128, 256, num_layers=2, bidirectional=True, batch_first=True)
        self.tags = nn.Linear(512, 45)

    def forward(self, input_ids):
        states, _ = self.lstm(self.embed(input_ids))
        return self.tags(states)


def tagger():
    return Tagger().eval(), token_inputs(10_000, 32, masked=False), ["tags"]


def export_dynamo(model, inputs, outputs, path, *, symbolic):
    """PyTorch's default exporter (torch.export)."""
    torch.onnx.export(
        model,
        tuple(inputs.values()),
        path,
        input_names=list(inputs),
        output_names=outputs,
        dynamic_shapes=tuple({0: torch.export.Dim("batch")} for _ in inputs) if symbolic else None,
        external_data=True,
        verbose=False,
    )


def export_torchscript(model, inputs, outputs, path, *, symbolic):
    """The older exporter (tracing to TorchScript), whose files are everywhere."""
    torch.onnx.export(
        model,
        tuple(inputs.values()),
        path,
        input_names=list(inputs),
        output_names=outputs,
        dynamic_axes={name: {0: "batch"} for name in [*inputs, *outputs]} if symbolic else None,
        dynamo=False,
    )


# torch.export refuses torchvision's `batched_nms` (a branch on the number of boxes found), tracing takes it.
NMS_REASON = "torchvision's detector loops over a list of images, which the exporter unrolls: batch 1"
MODELS = {
    "resnet50": (classifier(torchvision.models.resnet50), export_dynamo, None),
    "bert-base": (bert(), export_dynamo, None),
    "mobilenet-v2": (classifier(torchvision.models.mobilenet_v2), export_dynamo, None),
    "efficientnet-b0": (classifier(torchvision.models.efficientnet_b0), export_dynamo, None),
    "minilm-l6": (
        bert(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
        export_dynamo,
        None,
    ),
    "vit-b-16": (vision_transformer, export_dynamo, None),
    "gpt2": (gpt2, export_dynamo, None),
    "deeplab-v3": (deeplab, export_dynamo, None),
    "lstm-tagger": (tagger, export_dynamo, None),
    "ssdlite": (ssdlite, export_torchscript, NMS_REASON),
    "resnet50-torchscript": (classifier(torchvision.models.resnet50), export_torchscript, None),
    "minilm-l6-torchscript": (
        bert(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
        export_torchscript,
        None,
    ),
    "lstm-tagger-torchscript": (tagger, export_torchscript, None),
}


def export(name, out):
    build, exporter, fixed_reason = MODELS[name]
    torch.manual_seed(SEED)
    model, make_inputs, outputs = build()
    # Two samples while tracing: the exporter would treat a batch of 1 as a constant.
    symbolic = fixed_reason is None
    inputs = {k: torch.from_numpy(v) for k, v in make_inputs(2 if symbolic else 1).items()}
    scratch = out / f"{name}.export"
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / "model.onnx"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exporter(model, inputs, outputs, path, symbolic=symbolic)
    meta = {
        "exporter": "PyTorch "
        + torch.__version__
        + (", TorchScript" if exporter is export_torchscript else ""),
        "parameters": sum(p.numel() for p in model.parameters()),
        "symbolic_batch": symbolic,
        "why_fixed": fixed_reason,
    }
    del model
    gc.collect()
    proto = onnx.load(path)
    meta["opset"] = next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
    zoo_common.finish(out / name, proto, make_inputs, meta, DIGEST)
    for file in scratch.iterdir():
        file.unlink()
    scratch.rmdir()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODELS))
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(MODELS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    failed = []
    for name in arguments.names or MODELS:
        if zoo_common.is_current(arguments.out / name, DIGEST):
            print(f"{name}: already exported", flush=True)
            continue
        start = time.monotonic()
        try:
            export(name, arguments.out)
        except Exception as error:  # one model's exporter must not stop the others
            print(f"{name}: export failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            failed.append(name)
        else:
            print(f"{name}: exported in {time.monotonic() - start:.0f} s", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
