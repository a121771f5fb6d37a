"""Pickle the PyTorch modules that `zoo.py` exported, so that PyTorch as a peer runs the same network.

The same constructor after the same seed gives the same weights; `peer_worker.py` compares the answers. A module
that is there already and was made by the same scripts is kept.

Usage: python tools/peer_torch.py OUT NAME ...     (tools/requirements-zoo.txt)
"""

import sys
from pathlib import Path

import torch
import zoo


def main():
    out, names = Path(sys.argv[1]), sys.argv[2:]
    for name in names:
        path, stamp = out / f"{name}.pt", out / f"{name}.hash"
        if path.exists() and stamp.exists() and stamp.read_text() == zoo.DIGEST:
            continue
        try:
            torch.manual_seed(zoo.SEED)
            module, _, _ = zoo.MODELS[name][0]()
            torch.save(module, path)
        except Exception as error:  # one model must not stop the others
            path.unlink(missing_ok=True)
            print(f"{name}: no PyTorch module: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        else:
            stamp.write_text(zoo.DIGEST)
            print(f"{name}: PyTorch module kept", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
