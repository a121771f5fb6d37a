"""Feed damaged and hostile files to `anychip` and check that it refuses them as it promises.

For every file: no crash (a signal, a Rust panic's exit status 101 or its text), no more than 20 s, no more
than 1 GB of memory; and for a file that cannot be valid exit status 1 with a diagnostic that names the
place. Files: a trained model cut at every 1/64 of its length and with flipped bytes; hand-made models with
a cycle, missing or mistyped values, absurd dimensions, external data outside the folder, endless recursion;
things that are no models; and `.npz` inputs with wrong names, dtypes, shapes and claims.

Usage: python tools/bad_input.py BINARY MODEL.onnx INPUTS.npz [--keep FOLDER]
"""

import argparse
import io
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SEED = 7
SECONDS = 20
MEMORY = 1_000_000_000
# A backstop, far above what is allowed, so that a fault cannot take the machine down before it is seen.
ADDRESS_SPACE = 16 * 2**30
HUGE = 2**62


@dataclass
class Case:
    name: str
    command: list  # after the binary
    fails: bool = True  # False: the damage may be harmless, only a crash is a fault
    mentions: tuple = ()  # each must stand in the diagnostics


def value(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes, inputs, outputs, initializers=(), functions=(), opset=20, domains=()):
    graph = helper.make_graph(nodes, "damaged", inputs, outputs, list(initializers))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=10)


def node(op, inputs, outputs, name, **attributes):
    return helper.make_node(op, inputs, outputs, name=name, **attributes)


def external(path, offset=None, length=None, dims=(4,)):
    """A tensor `weights` whose data is said to lie in another file."""
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", path), ("offset", offset), ("length", length)):
        if text is not None:
            tensor.external_data.add(key=key, value=str(text))
    return tensor


def with_weights(tensor):
    return model([node("Add", ["x", "weights"], ["y"], "sum")], [value("x", [4])], [value("y", [4])], [tensor])


def nested(depth):
    """An If within an If within an If …: a chain, since two nested branches each would double at every level."""
    leaf = helper.make_graph([node("Identity", ["x"], ["leaf"], "leaf")], "leaf", [], [value("leaf", [1])])
    inner = leaf
    for level in range(depth):
        branch = node("If", ["c"], [f"b{level}"], f"if{level}", then_branch=inner, else_branch=leaf)
        inner = helper.make_graph([branch], f"g{level}", [], [value(f"b{level}", [1])])
    top = node("If", ["c"], ["y"], "top", then_branch=inner, else_branch=leaf)
    return model([top], [value("x", [1]), value("c", [], TensorProto.BOOL)], [value("y", [1])])


def recursive_function():
    """A model function that calls itself."""
    function = helper.make_function(
        "own", "Forever", ["a"], ["b"], [helper.make_node("Forever", ["a"], ["b"], domain="own", name="again")],
        [helper.make_opsetid("own", 1)],
    )
    call = helper.make_node("Forever", ["x"], ["y"], domain="own", name="call")
    return model([call], [value("x", [1])], [value("y", [1])], functions=[function], domains=["own"])


def int64(name, values):
    return numpy_helper.from_array(np.asarray(values, dtype=np.int64), name)


# Well formed, but no machine has the memory: `inspect` may describe them, `run` must refuse.
IMPOSSIBLE_TO_RUN = {
    "big-constant-of-shape", "huge-constant-of-shape", "huge-range", "huge-expand", "huge-tile", "huge-pad", "huge-kernel",
}


def hand_made():
    """(name, model, words the diagnostic must contain)."""
    x, y = [value("x", [4])], [value("y", [4])]
    add = node("Add", ["x", "w"], ["y"], "sum")
    short = numpy_helper.from_array(np.ones(4, np.float32), "w")
    short.dims[0] = 1000
    negative = numpy_helper.from_array(np.ones(4, np.float32), "w")
    negative.dims[0] = -4
    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[HUGE, HUGE], raw_data=b"\0\0\0\0")
    unknown_type = TensorProto(name="w", data_type=9999, dims=[1], raw_data=b"\0\0\0\0")
    ones = numpy_helper.from_array(np.ones(4, np.float32), "w")
    return [
        ("cycle", model([node("Relu", ["b"], ["a"], "first"), node("Relu", ["a"], ["b"], "second"), node("Add", ["x", "b"], ["y"], "sum")], x, y), ["first"]),
        ("self-loop", model([node("Add", ["x", "y"], ["y"], "loop")], x, y), ["loop"]),
        ("missing-initializer", model([add], x, y), ["w"]),
        ("missing-output", model([node("Relu", ["x"], ["z"], "relu")], x, y), ["y"]),
        ("defined-twice", model([node("Relu", ["x"], ["y"], "one"), node("Relu", ["x"], ["y"], "two")], x, y), ["y"]),
        ("wrong-dtype", model([add], x, y, [int64("w", [1, 2, 3, 4])]), ["sum"]),
        ("wrong-declared-dtype", model([node("Relu", ["x"], ["y"], "relu")], x, [value("y", [4], TensorProto.INT64)]), ["y"]),
        ("unknown-dtype", model([add], x, y, [unknown_type]), ["w"]),
        ("string-input", model([node("Relu", ["x"], ["y"], "relu")], [value("x", [4], TensorProto.STRING)], y), ["x"]),
        ("shape-mismatch", model([node("MatMul", ["x", "w"], ["y"], "product")], [value("x", [2, 3])], [value("y", [2, 2])], [numpy_helper.from_array(np.ones((4, 2), np.float32), "w")]), ["product"]),
        ("data-too-short", model([add], x, y, [short]), ["w"]),
        ("negative-dim", model([add], x, y, [negative]), ["w"]),
        ("huge-initializer", model([add], x, y, [huge]), ["w"]),
        ("huge-input-dim", model([node("Relu", ["x"], ["y"], "relu")], [value("x", [HUGE, HUGE])], [value("y", [HUGE, HUGE])]), ["x"]),
        ("huge-constant-of-shape", model([node("ConstantOfShape", ["s"], ["y"], "fill")], [], [value("y", None)], [int64("s", [HUGE])]), ["fill"]),
        ("big-constant-of-shape", model([node("ConstantOfShape", ["s"], ["c"], "fill"), node("ReduceSum", ["c"], ["y"], "total", keepdims=0)], [], [value("y", [])], [int64("s", [2**40])]), ["fill"]),
        ("huge-range", model([node("Range", ["a", "b", "c"], ["y"], "range")], [], [value("y", None, TensorProto.INT64)], [int64("a", 0), int64("b", HUGE), int64("c", 1)]), ["range"]),
        ("huge-expand", model([node("Expand", ["x", "s"], ["y"], "expand")], x, [value("y", None)], [int64("s", [2**30, 2**30, 4])]), ["expand"]),
        ("huge-tile", model([node("Tile", ["x", "s"], ["y"], "tile")], x, [value("y", None)], [int64("s", [HUGE])]), ["tile"]),
        ("huge-pad", model([node("Pad", ["x", "s"], ["y"], "pad")], x, [value("y", None)], [int64("s", [HUGE, HUGE])]), ["pad"]),
        ("huge-kernel", model([node("MaxPool", ["x"], ["y"], "pool", kernel_shape=[2**40, 2**40])], [value("x", [1, 1, 4, 4])], [value("y", None)]), ["pool"]),
        ("zero-stride", model([node("MaxPool", ["x"], ["y"], "pool", kernel_shape=[2, 2], strides=[0, 0])], [value("x", [1, 1, 4, 4])], [value("y", None)]), ["pool"]),
        ("zero-group", model([node("Conv", ["x", "w"], ["y"], "conv", group=0)], [value("x", [1, 4, 4, 4])], [value("y", None)], [numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w")]), ["conv"]),
        ("bad-permutation", model([node("Transpose", ["x"], ["y"], "turn", perm=[0, 7])], [value("x", [2, 2])], [value("y", None)]), ["turn"]),
        ("bad-axis", model([node("Softmax", ["x"], ["y"], "soft", axis=9)], x, y), ["soft"]),
        ("reshape-count", model([node("Reshape", ["x", "s"], ["y"], "reshape")], x, [value("y", None)], [int64("s", [3, 5])]), ["reshape"]),
        ("reshape-negative", model([node("Reshape", ["x", "s"], ["y"], "reshape")], x, [value("y", None)], [int64("s", [-1, -1])]), ["reshape"]),
        ("too-few-inputs", model([node("Add", ["x"], ["y"], "sum")], x, y), ["sum"]),
        ("too-many-outputs", model([node("Relu", ["x"], ["y", "z"], "relu")], x, y), ["relu"]),
        ("unknown-operator", model([node("Teleport", ["x"], ["y"], "beam")], x, y), ["beam", "Teleport"]),
        ("two-unknown-operators", model([node("Teleport", ["x"], ["a"], "beam"), node("Levitate", ["a"], ["y"], "rise")], x, y), ["beam", "rise"]),
        ("unknown-domain", model([helper.make_node("Relu", ["x"], ["y"], domain="nowhere", name="relu")], x, y, domains=["nowhere"]), ["relu"]),
        ("future-opset", model([node("Relu", ["x"], ["y"], "relu")], x, y, opset=999), ["999"]),
        ("recursive-function", recursive_function(), ["Forever"]),
        ("external-parent", with_weights(external("../../../../../../etc/passwd")), ["weights"]),
        ("external-absolute", with_weights(external("/etc/passwd")), ["weights"]),
        ("external-link", with_weights(external("link.bin")), ["weights"]),
        ("external-missing", with_weights(external("nothing.bin")), ["weights", "nothing.bin"]),
        ("external-short", with_weights(external("short.bin")), ["weights"]),
        ("external-offset", with_weights(external("short.bin", offset=HUGE)), ["weights"]),
        ("external-negative", with_weights(external("short.bin", offset=-8)), ["weights"]),
        ("external-length", with_weights(external("short.bin", length=2**63)), ["weights"]),
        ("external-huge", with_weights(external("short.bin", dims=(HUGE, 8))), ["weights"]),
        ("external-device", with_weights(external("zero-device")), ["weights"]),
        ("no-opset", without_opset(model([node("Relu", ["x"], ["y"], "relu")], x, y)), ["opset"]),
        ("no-graph", onnx.ModelProto(ir_version=10), ["graph"]),
        ("duplicate-initializer", model([add], x, y, [ones, ones]), ["w"]),
    ]


def without_opset(proto):
    del proto.opset_import[:]
    return proto


def deep_nesting(levels):
    """A message nested by hand: protobuf's own library would refuse to build it."""
    # graph (field 7) > node (1) > attribute (5) > g (6) > node …
    body = b""
    for _ in range(levels):
        for field in (6, 5, 1):
            body = bytes([field << 3 | 2]) + varint(len(body)) + body
    return bytes([8, 10, 7 << 3 | 2]) + varint(len(body)) + body


def varint(number):
    out = bytearray()
    while True:
        out.append((number & 127) | (128 if number > 127 else 0))
        number >>= 7
        if not number:
            return bytes(out)


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def claimed_npy(shape):
    """The header of an array of the given shape, and no data."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def zipped(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name + ".npy", data)
    return out.getvalue()


def wrong_arrays(pixels):
    """(name, bytes of an .npz, whether it must be refused, words the diagnostic must contain)."""
    good = npz(pixels=pixels)
    name, shape = "pixels", "8"
    return [
        ("missing-name", npz(other=pixels), True, [name]),
        ("wrong-dtype", npz(pixels=pixels.astype(np.int64)), True, [name, "f32", "i64"]),
        ("wrong-rank", npz(pixels=pixels.reshape(-1)), True, [name]),
        ("wrong-shape", npz(pixels=np.zeros((1, 1, 9, 9), np.float32)), True, [name, shape, "9"]),
        ("objects", npz(pixels=np.array([{}, []], dtype=object)), True, [name]),
        ("text", npz(pixels=np.array(["a", "b"])), True, [name]),
        ("empty-batch", npz(pixels=pixels[:0]), False, []),
        ("fortran-order", npz(pixels=np.asfortranarray(pixels)), False, []),
        ("big-endian", npz(pixels=pixels.astype(">f4")), False, []),
        ("claims-2^50-elements", zipped(pixels=claimed_npy((2**50, 1, 8, 8))), True, []),
        ("claims-overflow", zipped(pixels=claimed_npy((2**62, 2**62, 8, 8))), True, []),
        ("zip-bomb", zipped(pixels=claimed_npy((2**26, 1, 8, 8)) + bytes(2**28)), True, []),
        ("header-garbage", zipped(pixels=b"\x93NUMPY\x01\x00\xff\xff{'descr'"), True, []),
        ("not-a-zip", b"pixels = 1 2 3\n", True, []),
        ("empty", b"", True, []),
        *((f"cut-{i}-of-16", good[: len(good) * i // 16], True, []) for i in range(1, 16)),
    ]


def write_cases(folder, model_path, inputs_path):
    """Write every file and say what is to happen to it."""
    cases = []

    def add(name, data, fails=True, mentions=()):
        path = folder / f"{name}.onnx"
        path.write_bytes(data)
        cases.append(Case(name, ["inspect", str(path)], fails, tuple(mentions)))
        return path

    good = model_path.read_bytes()
    for part in range(64):
        add(f"cut-{part}-of-64", good[: len(good) * part // 64])
    dice = random.Random(SEED)
    for number in range(192):
        damaged = bytearray(good)
        # Half of the flips go where the structure is: large weights soak up most random positions.
        for _ in range(dice.choice([1, 1, 4, 32])):
            at = dice.randrange(len(good)) if number % 2 else dice.randrange(min(len(good), 6000))
            damaged[at] ^= 1 << dice.randrange(8)
        path = add(f"flip-{number}", bytes(damaged), fails=False)
        cases.append(Case(f"flip-{number} run", ["run", str(path), "--input", str(inputs_path)], fails=False))

    (folder / "short.bin").write_bytes(b"\0\0\0\0")
    outside = folder.parent / f"{folder.name}-outside.bin"
    outside.write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(outside)
    (folder / "zero-device").symlink_to("/dev/zero")  # endless when read
    np.savez(folder / "x.npz", x=np.ones(4, np.float32))
    for name, proto, mentions in hand_made():
        path = add(name, proto.SerializeToString(), name not in IMPOSSIBLE_TO_RUN, mentions)
        given = ["--input", str(folder / "x.npz")] if any(i.name == "x" for i in proto.graph.input) else []
        cases.append(Case(f"{name} run", ["run", str(path), *given], mentions=tuple(mentions)))
    add("nested-if-30", nested(30).SerializeToString(), fails=False)
    add("nested-messages-100000", deep_nesting(100_000))
    add("empty", b"")
    add("jpeg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + dice.randbytes(5000))
    add("text", b"this is not a model\n" * 50)
    add("zeros", bytes(100_000))
    add("noise", dice.randbytes(100_000))
    (folder / "folder.onnx").mkdir()
    cases.append(Case("folder", ["inspect", str(folder / "folder.onnx")]))
    cases.append(Case("absent", ["inspect", str(folder / "absent.onnx")], mentions=("absent.onnx",)))

    with np.load(inputs_path) as given:
        pixels = given["pixels"]
    for name, data, fails, mentions in wrong_arrays(pixels):
        path = folder / f"{name}.npz"
        path.write_bytes(data)
        command = ["run", str(model_path), "--input", str(path)]
        cases.append(Case(f"npz {name}", command, fails, tuple(mentions)))
    return cases


def limits():
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(binary, command):
    """Exit status (negative: a signal), diagnostics, peak memory, seconds."""
    with tempfile.TemporaryFile() as diagnostics:
        start = time.monotonic()
        child = subprocess.Popen(
            [binary, *command], stdout=subprocess.DEVNULL, stderr=diagnostics, stdin=subprocess.DEVNULL,
            preexec_fn=limits,  # noqa: PLW1509 (no threads here)
        )
        signal.signal(signal.SIGALRM, lambda *_: child.kill())
        signal.alarm(SECONDS)
        _, status, usage = os.wait4(child.pid, 0)
        signal.alarm(0)
        child.returncode = os.waitstatus_to_exitcode(status)
        diagnostics.seek(0)
        text = diagnostics.read(1 << 20).decode(errors="replace")
        return child.returncode, text, usage.ru_maxrss * 1024, time.monotonic() - start


def faults(case, status, text, peak, seconds):
    """What is wrong with how a file was taken; empty when all is well."""
    found = []
    if status < 0:
        found.append("too slow" if seconds >= SECONDS else f"died of signal {-status}")
    elif status not in (0, 1):
        found.append(f"exit status {status}")
    if "panicked at" in text:
        found.append("panicked")
    if peak > MEMORY:
        found.append(f"{peak / 1e6:.0f} MB of memory")
    if case.fails and status == 0:
        found.append("was accepted")
    if status == 1 and not text.strip():
        found.append("no diagnostic")
    if case.fails and status == 1:
        found += [f"the diagnostic does not mention `{w}`" for w in case.mentions if w not in text]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("binary", "model", "inputs"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--keep", type=Path, help="write the files here and leave them")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch, "files")
        folder.mkdir(parents=True)
        cases = write_cases(folder, arguments.model.resolve(), arguments.inputs.resolve())
        wrong, largest, slowest, accepted = 0, 0, 0.0, 0
        for case in cases:
            status, text, peak, seconds = run(arguments.binary.resolve(), case.command)
            found = faults(case, status, text, peak, seconds)
            largest, slowest = max(largest, peak), max(slowest, seconds)
            accepted += status == 0
            if found:
                wrong += 1
                first = text.strip().splitlines()[0][:200] if text.strip() else ""
                print(f"FAIL {case.name}: {'; '.join(found)}   {first}")
    print(
        f"{len(cases) - wrong} passed, {wrong} failed, 0 skipped: {accepted} of the harmless ones accepted, "
        f"at most {largest / 1e6:.0f} MB and {slowest:.1f} s a file (flips seeded with {SEED})"
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
