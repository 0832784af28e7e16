"""Code compiled for one kind of processor stays in its own file: were a function of it, a standard one for
instance, left for the linker to choose from, every file could end up calling that copy, and crash elsewhere."""

import platform
import subprocess
from pathlib import Path

import pytest

BUILD = Path(__file__).resolve().parents[2] / "build" / "release"
LIBRARY = BUILD / "libnative.a"
HALF = {"avx512_bf16": ["avx512_bf16"], "amx_bf16": ["amx_bf16", "amx_bf16x3"]}  # tables of products in bf16
SHARED = set("WwVvuiBC")  # of nm: weak, unique or common symbols, of which a linker keeps one copy for all


def symbols_by_object(*options):
    listing = subprocess.run(["nm", "--demangle", *options, LIBRARY], capture_output=True, text=True, check=True)
    objects, current = {}, None
    for line in listing.stdout.splitlines():
        if line.endswith(":") and " " not in line:
            current = objects.setdefault(line[:-1], [])
        elif line:
            current.append(line.split(maxsplit=2)[-2:])  # type, name
    return {name: found for name, found in objects.items() if name.startswith(("amx", "avx", "plain"))}


@pytest.fixture(scope="module")
def kernel_symbols():
    if platform.machine() not in {"x86_64", "AMD64"}:
        pytest.skip("only x86-64 has several kinds")
    if not LIBRARY.is_file():
        pytest.skip(f"{LIBRARY} is not built")
    return symbols_by_object("--defined-only")


def test_each_kind_has_its_object(kernel_symbols):
    assert {name.split(".")[0] for name in kernel_symbols} == {"plain", "avx2", "avx512", *HALF}


def test_kernel_objects_define_nothing_that_the_linker_shares(kernel_symbols):
    shared = [f"{name}: {symbol}" for name, found in kernel_symbols.items() for kind, symbol in found if kind in SHARED]
    assert shared == []


def test_kernel_objects_offer_tables_alone(kernel_symbols):
    for name, found in kernel_symbols.items():
        kind = name.split(".")[0]
        offered = {symbol for letter, symbol in found if letter.isupper()}
        tables = HALF.get(kind, [f"{kind}_float", f"{kind}_double"])
        assert offered == {f"pf2lora::native::{table}" for table in tables}


def test_nothing_of_them_runs_at_start(kernel_symbols):
    """No constructors either: a table is a constant, so code for a kind runs only once it was chosen."""
    assert not [symbol for found in kernel_symbols.values() for _, symbol in found if "_GLOBAL__sub_I" in symbol]
