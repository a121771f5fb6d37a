"""Write the bodies that the ONNX standard gives its own operators, for the importer's fallback.

Some operators are defined by a graph of others. This script collects those bodies from the `onnx` package
and writes them as one ModelProto whose functions carry the version of the definition as `overload`:

    python tools/standard_functions.py crates/onnx/proto/functions.binpb

Bodies that depend on the types at hand are not data and are left out.
"""

import argparse
from pathlib import Path

import onnx
from onnx import defs


def bodies():
    """Every definition with a fixed body, oldest first."""
    for schema in sorted(
        defs.get_all_schemas_with_history(), key=lambda s: (s.domain, s.name, s.since_version)
    ):
        if not schema.has_function:
            continue
        body = onnx.FunctionProto()
        body.CopyFrom(schema.function_body)
        body.ClearField("doc_string")
        body.overload = str(schema.since_version)
        # What a caller leaves out has the default of the definition.
        given = {a.name for a in body.attribute_proto}
        for name, attribute in schema.attributes.items():
            if attribute.default_value.type and name not in given:
                body.attribute_proto.append(attribute.default_value)
        yield body


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    model = onnx.ModelProto(producer_name="onnx", producer_version=onnx.__version__)
    model.functions.extend(bodies())
    arguments.out.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{len(model.functions)} bodies, {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
