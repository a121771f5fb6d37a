"""Lists the operators of the timm models that the calibration data has timings of.

The truth of `timm_inference` is a model's name, an image size and a rate. What a predictor needs is the
model's operators. Each model is built on PyTorch's meta device, which holds shapes and no weights, run once
for one image, and each operator that reaches the dispatcher is written down with its class, arithmetic, and
the elements it reads and writes. Operators that only rename memory are dropped.

    python timm_layers.py timm_inference.csv.gz timm_layers.csv.gz [--processes 2]

Needs torch (a CPU build is enough) and timm; both versions go into the first line of the output.

A line of the output is a model at an image size, or one of its kernels: the columns are in `COLUMNS`.
`group` numbers the kernels as a compiler would fuse them: elementwise operators and reductions join the
kernels they read from or feed, matrix products and convolutions stay alone.
"""

import argparse
import csv
import gzip
import io
import math
import multiprocessing
import sys
from collections import Counter

COLUMNS = [
    # One operator as it is launched eagerly, how often it occurs, and its sizes for one image.
    "class", "count", "macs", "reads", "writes", "weights", "fixed",
    # The bytes read and written under automatic mixed precision, where norms and sums stay in f32.
    "amp_reads", "amp_writes",
    # Of products: rows that grow with the batch, columns, depth, how many of them side by side; for
    # convolutions: output positions, output channels per group, depth per group, groups, then kernel area and stride.
    "m", "n", "k", "groups", "kernel", "stride",
]

VIEWS = {
    "view", "_unsafe_view", "_reshape_alias", "expand", "permute", "t", "transpose", "slice", "select",
    "unsqueeze", "squeeze", "split", "split_with_sizes", "unbind", "alias", "detach", "as_strided", "unfold",
    "lift_fresh", "chunk", "narrow", "view_as_complex", "view_as_real", "diagonal", "real", "imag",
}
NORMS = {
    "native_layer_norm", "native_group_norm", "native_batch_norm", "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit", "cudnn_batch_norm", "_fused_rms_norm", "rms_norm",
}
COPIES = {
    "clone", "cat", "copy_", "copy", "constant_pad_nd", "roll", "index", "gather", "index_select", "stack", "_to_copy",
    "repeat", "flip", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "reflection_pad2d", "slice_scatter",
    "im2col", "col2im", "fill_", "zeros", "empty", "arange", "index_put_", "index_put", "masked_fill", "masked_fill_",
    "tril", "triu",
}
REDUCTIONS = {
    "mean", "sum", "var_mean", "var", "std", "max", "min", "amax", "amin", "linalg_vector_norm", "norm", "argmax",
    "cumsum", "topk", "sort", "prod", "std_mean",
}
POOLS = {
    "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool1d",
    "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa", "grid_sampler_2d", "_adaptive_avg_pool2d_backward",
}
TRANSCENDENTAL = {
    "gelu", "silu", "silu_", "sigmoid", "sigmoid_", "tanh", "exp", "erf", "mish", "mish_", "pow", "softplus", "log", "sin", "cos",
    "elu", "elu_", "hardswish", "hardswish_", "reciprocal", "rsqrt", "sqrt",
}
# What autocast runs in f32 whatever it is given.
WIDE = {
    "native_layer_norm", "native_group_norm", "_softmax", "_log_softmax", "sum", "prod", "cumsum", "linalg_vector_norm",
    "norm", "pow", "exp", "log", "rsqrt", "reciprocal", "softplus", "erfinv", "tan", "acos",
}
PRODUCTS = {"convolution", "pointwise", "depthwise", "grouped", "linear", "matmul", "attention"}
FUSIBLE = {"transcendental", "cast", "batch-norm", "norm", "softmax", "elementwise", "copy", "reduction"}


def elements(tensor):
    return math.prod(tensor.shape)


def recorder(torch):
    """A dispatch mode that writes operators down, and a function mode that keeps attention whole."""
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    class Operators(TorchDispatchMode):
        def __init__(self, weights):
            super().__init__()
            self.rows = []
            self.alive = list(weights)  # identities stay unique while the tensors live
            self.fixed = {id(t) for t in weights}
            self.maker = {}  # identity of a tensor -> row that made it
            self.narrow = set()  # identities of tensors that are f16 under automatic mixed precision

        def flat(self, args):
            found = []
            for a in args:
                if isinstance(a, torch.Tensor):
                    found.append(a)
                elif isinstance(a, (list, tuple)):
                    found += self.flat(a)
            return found

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            self.note(func.overloadpacket.__name__, args, kwargs or {}, out)
            return out

        def note(self, name, args, kwargs, out):
            inputs = self.flat(args) + self.flat(kwargs.values())
            outputs = self.flat([out])
            self.alive += inputs + outputs
            fixed = bool(outputs) and all(id(t) in self.fixed for t in inputs)
            if fixed:
                self.fixed.update(id(t) for t in outputs)
            makers = {self.maker[id(t)] for t in inputs if id(t) in self.maker}
            if name in VIEWS or not outputs:
                narrow = bool(inputs) and id(inputs[0]) in self.narrow
                for t in outputs:
                    if makers:
                        self.maker[id(t)] = max(makers)
                    if narrow:
                        self.narrow.add(id(t))
                return
            row = describe(name, args, inputs, outputs, lambda t: id(t) in self.fixed)
            row["fixed"] = int(fixed)
            row["makers"] = makers
            row["name"] = name
            if name in ("empty", "zeros", "arange", "ones", "full", "scalar_tensor", "linspace") and not inputs:
                return
            self.mix(row, inputs, outputs)
            for t in outputs:
                self.maker[id(t)] = len(self.rows)
            self.rows.append(row)

        def mix(self, row, inputs, outputs):
            """Bytes under automatic mixed precision; casts become rows of their own before `row`."""
            data = [t for t in inputs if id(t) not in self.fixed]
            wide = [t for t in data if id(t) not in self.narrow]
            narrow_out = False
            size = 4
            if row["class"] in PRODUCTS:
                casts, width, narrow_out, size = wide, (4, 2), True, 2
            elif row["name"] in WIDE:
                casts, width = [t for t in data if id(t) in self.narrow], (2, 4)
            else:
                promoted = [t for t in inputs if id(t) not in self.narrow and t.dim() > 0 and t.is_floating_point()]
                casts, width = [], None
                narrow_out = row["class"] == "batch-norm" and not wide or not promoted
                size = 2 if narrow_out else None
            for t in casts:
                n = elements(t)
                cast = dict.fromkeys(COLUMNS, 0)
                cast.update(reads=n, writes=n, amp_reads=width[0] * n, amp_writes=width[1] * n, name="cast")
                cast["class"] = "cast"
                cast["makers"] = {self.maker[id(t)]} & row["makers"] if id(t) in self.maker else set()
                row["makers"] = row["makers"] - cast["makers"] | {len(self.rows)}
                self.rows.append(cast)
            if size:
                row["amp_reads"] = size * row["reads"]
            else:
                share = sum(elements(t) * (2 if id(t) in self.narrow else 4) for t in data)
                total = sum(elements(t) for t in data)
                row["amp_reads"] = round(row["reads"] * share / total) if total else 0
            row["amp_writes"] = row["writes"] * (2 if narrow_out else 4)
            if narrow_out:
                self.narrow.update(id(t) for t in outputs)

    class Attention(TorchFunctionMode):
        def __init__(self, operators):
            super().__init__()
            self.operators = operators

        def __torch_function__(self, func, types, args=(), kwargs=None):
            # Fused kernels take four dims; anything else runs as two products and a softmax.
            if func is torch.nn.functional.scaled_dot_product_attention and args[0].dim() == 4:
                q, k, v = args[:3]
                mask = kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
                with torch._C._DisableTorchDispatch():
                    out = q.new_empty(*q.shape[:-1], v.shape[-1])
                self.operators.note("attention", [q, k, v, *([] if mask is None else [mask])], {}, out)
                return out
            return func(*args, **(kwargs or {}))

    return Operators, Attention


def describe(name, args, inputs, outputs, is_fixed):
    reads = sum(elements(t) for t in inputs if not is_fixed(t))
    weights = sum(elements(t) for t in inputs if is_fixed(t))
    writes = sum(elements(t) for t in outputs)
    row = dict(reads=reads, writes=writes, weights=weights, macs=0, m=0, n=0, k=0, groups=0, kernel=0, stride=0)
    if name == "convolution" or name == "_convolution":
        x, w = args[0], args[1]
        groups = args[8]
        y = outputs[0]
        kernel = math.prod(w.shape[2:])
        row.update(m=y.shape[0] * math.prod(y.shape[2:]), n=w.shape[0] // groups, k=w.shape[1] * kernel,
                   groups=groups, kernel=kernel, stride=args[3][0])
        row["macs"] = elements(y) * w.shape[1] * kernel
        if args[6]:  # transposed: as the convolution that would undo it
            row.update(m=x.shape[0] * math.prod(x.shape[2:]), n=w.shape[1] * kernel, k=w.shape[0] // groups, kernel=kernel)
            row["macs"] = elements(x) * w.shape[1] * kernel
        one = w.shape[1] == 1 and groups > 1
        row["class"] = "depthwise" if one else "grouped" if groups > 1 else "pointwise" if kernel == 1 else "convolution"
    elif name in ("addmm", "mm", "bmm", "baddbmm", "addbmm"):
        a, b = inputs[-2:]
        if name == "mm" or name == "bmm":
            a, b = args[0], args[1]
        else:
            a, b = args[1], args[2]
        batch = a.shape[0] if a.dim() == 3 else 1
        row.update(m=a.shape[-2], n=b.shape[-1], k=a.shape[-1], groups=batch)
        row["macs"] = batch * a.shape[-2] * a.shape[-1] * b.shape[-1]
        row["class"] = "linear" if batch == 1 and (is_fixed(b) or is_fixed(a)) else "matmul"
    elif name in ("mv", "dot", "addmv"):
        row["macs"] = elements(inputs[0])
        row["class"] = "matmul"
    elif name == "attention":
        q, k, v = inputs[:3]
        side = math.prod(q.shape[:-2])
        row.update(m=q.shape[-2], n=k.shape[-2], k=q.shape[-1], groups=side)
        row["macs"] = side * q.shape[-2] * k.shape[-2] * (q.shape[-1] + v.shape[-1])
        row["class"] = "attention"
    elif name in NORMS:
        row["writes"] = elements(outputs[0])
        row["class"] = "batch-norm" if "batch_norm" in name else "norm"
    elif name in ("_softmax", "_log_softmax"):
        row["class"] = "softmax"
    elif name in POOLS:
        row["class"] = "pool"
    elif name in REDUCTIONS:
        row["class"] = "reduction"
    elif name in COPIES or name.startswith("index"):
        row["class"] = "copy"
        if name.startswith(("copy", "fill")):
            row["reads"] = row["reads"] - elements(outputs[0]) if name.startswith("copy") else 0
        if name in ("index", "gather", "index_select"):
            row["reads"], row["weights"] = min(row["reads"], writes), min(row["weights"], writes)
    else:
        row["class"] = "transcendental" if name in TRANSCENDENTAL else "elementwise"
    return row


def fuse(rows):
    """Numbers the kernels a compiler would make; returns a group for each row."""
    group = list(range(len(rows)))

    def root(i):
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    uses = Counter(m for r in rows for m in r["makers"])
    reduced = {}
    for i, row in enumerate(rows):
        if row["class"] not in FUSIBLE:
            continue
        for m in row["makers"]:
            if rows[m]["class"] in FUSIBLE and (uses[m] == 1 or row["class"] in ("elementwise", "transcendental", "cast")):
                # One pass over memory has one reduction; what follows it reads its result.
                a, b = root(m), root(i)
                heavy = {"norm", "softmax", "reduction"}
                if rows[i]["class"] in heavy and reduced.get(a, rows[m]["class"] in heavy):
                    continue
                if a != b:
                    group[b] = a
                    reduced[a] = reduced.get(a, False) or rows[m]["class"] in heavy or row["class"] in heavy
    return [root(i) for i in range(len(rows))]


def fused_rows(rows):
    """The kernels after fusion: arithmetic added up, values inside a kernel neither read nor written."""
    groups = fuse(rows)
    members = {}
    for i, g in enumerate(groups):
        members.setdefault(g, []).append(i)
    outside = Counter()
    for i, row in enumerate(rows):
        for m in row["makers"]:
            if groups[m] != groups[i]:
                outside[m] += 1
    used = Counter(m for r in rows for m in r["makers"])
    result = []
    for g, inside in members.items():
        if len(inside) == 1:
            result.append(rows[inside[0]])
            continue
        total = dict(rows[inside[0]])
        total.update(macs=0, m=0, n=0, k=0, groups=0, kernel=0, stride=0)
        for reads, writes in (("reads", "writes"), ("amp_reads", "amp_writes")):
            internal = sum(rows[m][writes] for i in inside for m in rows[i]["makers"] if groups[m] == g)
            total[reads] = max(sum(rows[i][reads] for i in inside) - internal, 0)
            total[writes] = sum(rows[i][writes] for i in inside if outside[i] or not used[i])
        total["weights"] = sum(rows[i]["weights"] for i in inside)
        classes = {rows[i]["class"] for i in inside}
        for c in ("softmax", "norm", "reduction", "transcendental", "elementwise", "cast", "batch-norm", "copy"):
            if c in classes:
                total["class"] = c
                break
        total["fixed"] = int(all(rows[i]["fixed"] for i in inside))
        result.append(total)
    return result


def distinct(rows):
    counted = Counter(tuple(r[c] for c in COLUMNS if c != "count") for r in rows)
    for key, count in counted.items():
        yield (key[0], count, *key[1:])


def trace(job):
    model_name, size = job
    import warnings

    import torch

    warnings.simplefilter("ignore")
    import timm

    torch.set_num_threads(1)
    operators_of, attention_of = recorder(torch)
    reason = None
    for extra in ({}, {"img_size": size}):
        try:
            with torch.device("meta"):
                model = timm.create_model(model_name, **extra).eval()
                parameters = sum(p.numel() for p in model.parameters())
                operators = operators_of([*model.parameters(), *model.buffers()])
                image = torch.empty(1, 3, size, size)
                with torch.no_grad(), attention_of(operators), operators:
                    model(image)
            rows = operators.rows
            return job, parameters, list(distinct(rows)), list(distinct(fused_rows(rows))), None
        except Exception as error:  # a model this version lacks or cannot trace: counted and named
            reason = reason or f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
    return job, 0, [], [], reason


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("truth")
    parser.add_argument("output")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--limit", type=int, help="only so many models, evenly spread")
    options = parser.parse_args()
    with gzip.open(options.truth, "rt", newline="") as file:
        jobs = sorted({(r["model"], int(r["infer_img_size"])) for r in csv.DictReader(file)})
    if options.limit:
        jobs = jobs[:: max(len(jobs) // options.limit, 1)]
    import timm
    import torch

    print(f"{len(jobs)} models and sizes; timm {timm.__version__}, torch {torch.__version__}", file=sys.stderr)
    lost = []
    text = io.StringIO()
    text.write(f"# timm {timm.__version__}, torch {torch.__version__}; tools/timm_layers.py\n")
    text.write("# M,model,size,parameters; then E (eager) or C (compiled): " + ",".join(COLUMNS) + "\n")
    with multiprocessing.Pool(options.processes) as pool:
        for done, (job, parameters, eager, fused, reason) in enumerate(pool.imap(trace, jobs, chunksize=4)):
            if done % 100 == 0:
                print(f"{done} done", file=sys.stderr, flush=True)
            if reason:
                lost.append((job, reason))
                continue
            text.write(f"M,{job[0]},{job[1]},{parameters}\n")
            for kind, rows in (("E", eager), ("C", fused)):
                for row in rows:
                    text.write(kind + "," + ",".join(map(str, row)) + "\n")
    with open(options.output, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(text.getvalue().encode())
    for job, reason in lost:
        print(f"lost {job[0]} at {job[1]}: {reason}", file=sys.stderr)
    print(f"{len(lost)} of {len(jobs)} lost", file=sys.stderr)


if __name__ == "__main__":
    main()
