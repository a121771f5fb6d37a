"""Export a Keras model through tf2onnx, as `zoo.py` does for PyTorch: MobileNet-V3, images in NHWC.

tf2onnx 1.17 prints a traceback of its transpose optimizer (a scalar operand of Add: `max()` of an empty shape) and goes
on: its transposes around the convolutions stay in the file, which is what users of it have.

Usage: python tools/zoo_keras.py OUT      (tools/requirements-zoo.txt)
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
import zoo_common

SEED = 0
NAME = "mobilenet-v3-keras"
HERE = Path(__file__).parent
DIGEST = zoo_common.hash_of(__file__, HERE / "zoo_common.py", HERE / "requirements-zoo.txt")


def make_inputs(batch):
    """Images of 0 to 255, as the model's own first layer expects: coarse noise with fine noise upon it."""
    random = np.random.default_rng(SEED)
    coarse = random.uniform(0, 200, (batch, 28, 28, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return {"image": (coarse + random.uniform(0, 55, (batch, 224, 224, 3))).astype(np.float32)}


def build():
    keras.utils.set_random_seed(SEED)
    model = keras.applications.MobileNetV3Large(
        weights=None, input_shape=(224, 224, 3), classifier_activation=None
    )
    # Statistics that fit random weights: without them the activations of an untrained net vanish.
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(make_inputs(4)["image"], training=True)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    if zoo_common.is_current(out / NAME, DIGEST):
        print(f"{NAME}: already exported")
        return
    start = time.monotonic()
    model = build()
    signature = [tf.TensorSpec([None, 224, 224, 3], tf.float32, name="image")]
    answer = tf.function(lambda image: {"logits": model(image, training=False)}, input_signature=signature)
    proto, _ = tf2onnx.convert.from_function(answer, input_signature=signature, opset=18)
    meta = {
        "exporter": f"Keras {keras.__version__}, TensorFlow {tf.__version__}, tf2onnx {tf2onnx.__version__}",
        "parameters": model.count_params(),
        "symbolic_batch": True,
        "why_fixed": None,
        "opset": next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")),
    }
    zoo_common.finish(out / NAME, proto, make_inputs, meta, DIGEST)
    print(f"{NAME}: exported in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
