"""Make PyPI's PyTorch wheel importable on a machine without NVIDIA's libraries.

PyPI's Linux wheel of PyTorch is built with CUDA and asks for 3 GB of NVIDIA packages, of which a CPU run
uses nothing but the file names: the dynamic linker wants the libraries to exist. Install the wheel with
`pip install --no-deps`, then run this script: for every library that PyTorch's own libraries need and
that is absent, it compiles a stand-in under the wanted name (and symbol versions). Each of its functions returns 100, which is
`cudaErrorNoDevice` (CUDA runtime API, enum cudaError): PyTorch then finds no GPU and uses the CPU.
A non-empty answer of `torch.cuda.is_available()` would show a fault here, so the script ends by asking.

Usage: python tools/cpu_torch.py      (needs a C compiler, as Rust does, and pyelftools)
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from elftools.elf.elffile import ELFFile

# Families of libraries that CUDA builds link to; anything else that is absent is a real fault.
NVIDIA = re.compile(r"^lib(cu|nccl|nvrtc|nvshmem|nvJitLink|nvToolsExt)")
FUNCTION = re.compile(r"^(cu|__cuda|cublas|cudnn|nccl|nvrtc|nvshmem|nvtx)")


def dynamic(path):
    """What a shared object asks of others: [library], {(library or None, version or None, function)}."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        needed = [t.needed for t in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")]
        versions = {}
        if section := elf.get_section_by_name(".gnu.version_r"):
            for library, entries in section.iter_versions():
                for entry in entries:
                    versions[entry["vna_other"]] = (library.name, entry.name)
        numbers = elf.get_section_by_name(".gnu.version")
        functions = set()
        for index, symbol in enumerate(elf.get_section_by_name(".dynsym").iter_symbols()):
            if symbol["st_shndx"] == "SHN_UNDEF" and FUNCTION.match(symbol.name):
                number = numbers.get_symbol(index)["ndx"] if numbers else None
                functions.add((*versions.get(number, (None, None)), symbol.name))
        return needed, functions


def compile_stand_in(path, by_version):
    """A shared library with the given functions, each under the symbol version its callers ask for."""
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder, "stand_in.c"), Path(folder, "versions.map")
        names = sorted({f for functions in by_version.values() for f in functions})
        source.write_text("".join(f"int {n}(void) {{ return 100; }}\n" for n in names))
        script.write_text(
            "".join(
                f"{version} {{ {''.join(f'{n}; ' for n in sorted(functions))}}};\n"
                for version, functions in sorted(by_version.items())
            )
        )
        options = ["-shared", "-fPIC", "-w", f"-Wl,-soname,{path.name}", f"-Wl,--version-script={script}"]
        subprocess.run(["cc", *options, "-o", path, source], check=True)


def main():
    if sys.platform != "linux":
        print("PyTorch's wheels for this system need no NVIDIA libraries")
        return
    package = Path(importlib.util.find_spec("torch").origin).parent
    libraries = package / "lib"
    wanted, functions = set(), set()
    for path in [*libraries.glob("*.so*"), *package.glob("_C*.so")]:
        needed, undefined = dynamic(path)
        wanted |= {n for n in needed if NVIDIA.match(n)}
        functions |= undefined
    absent = sorted(n for n in wanted if not (libraries / n).exists())
    for name in absent:
        by_version = {"STAND_IN": set()}  # never empty: the linker wants one version
        for library, version, function in functions:
            # A function asked for under no version is looked up everywhere: the runtime library has them.
            if library == name or (library is None and name.startswith("libcudart.")):
                by_version.setdefault(version or "STAND_IN", set()).add(function)
        compile_stand_in(libraries / name, by_version)
    print(f"{len(absent)} stand-ins written, {len(functions)} functions")
    check = "import torch; assert not torch.cuda.is_available(); print('torch', torch.__version__)"
    sys.exit(subprocess.run([sys.executable, "-c", check], check=False).returncode)


if __name__ == "__main__":
    main()
