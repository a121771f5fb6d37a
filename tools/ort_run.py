"""Run an ONNX file in ONNX Runtime's CPU provider on the inputs of an `.npz`, and write its outputs.

Usage: python tools/ort_run.py MODEL INPUTS.npz OUTPUTS.npz
"""

import sys

import numpy as np
import onnxruntime


def main():
    model, inputs, outputs = sys.argv[1:]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    taken = {i.name for i in session.get_inputs()}
    with np.load(inputs) as given:
        values = session.run(names, {k: given[k] for k in given.files if k in taken})
    np.savez(outputs, **dict(zip(names, values, strict=True)))


if __name__ == "__main__":
    main()
