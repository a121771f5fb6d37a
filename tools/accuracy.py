"""Count how many held-out digits a model's written outputs get right, beside ONNX Runtime on the same file.

Exit 1 when the outputs get fewer right than ONNX Runtime does.

Usage: python tools/accuracy.py MODEL.onnx INPUTS.npz OUTPUTS.npz
"""

import sys

import numpy as np
import onnxruntime


def right(logits, labels):
    return int((logits.argmax(axis=1) == labels).sum())


def main():
    model, inputs, outputs = sys.argv[1:]
    with np.load(inputs) as given, np.load(outputs) as written:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        (peer,) = session.run(["logits"], {"pixels": given["pixels"]})
        labels = given["labels"]
        ours = written["logits"]
    if ours.shape != peer.shape:
        sys.exit(f"logits {list(ours.shape)}, expected {list(peer.shape)}")
    count, expected = right(ours, labels), right(peer, labels)
    print(f"{count / len(labels):.2%} ({count} of {len(labels)}), ONNX Runtime {expected / len(labels):.2%}")
    sys.exit(0 if count >= expected else 1)


if __name__ == "__main__":
    main()
