"""Includes point one way, and four libraries stay behind their fences."""

import re
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"

# What each folder may include beside itself and everything that those folders may.
MAY_INCLUDE = {
    "core": [],
    "comm": ["core"],
    "io": ["core"],
    "native": ["core"],
    "adapters": ["core"],
    "data": ["core", "io"],
    "model": ["core", "io", "native", "adapters", "data"],
    "algorithm": ["core", "io", "native", "adapters", "data", "model"],
    "simulation": ["core", "comm", "io", "native", "adapters", "data", "model", "algorithm"],
    "app": ["core", "comm", "io", "native", "adapters", "data", "model", "algorithm", "simulation"],
}
FENCES = {  # header -> folders that may include it
    r"mpi\.h": {"comm"},
    r"hdf5(_hl)?\.h|H5\w*public\.h": {"io"},
    r"boost/.*": {"app"},
    r"(torch|ATen|c10)/.*": {"adapters", "model", "algorithm", "simulation", "app"},
}


def files():
    found = [path for path in SOURCE.rglob("*") if path.suffix in {".h", ".cpp"}]
    assert len(found) > 50
    return found


def includes(path):
    return re.findall(r'^\s*#\s*include\s*["<]([^">]+)[">]', path.read_text(), re.MULTILINE)


def test_every_folder_has_its_place_in_the_order():
    assert {path.name for path in SOURCE.iterdir() if path.is_dir()} == set(MAY_INCLUDE)


def test_includes_point_one_way():
    wrong = []
    for path in files():
        folder = path.relative_to(SOURCE).parts[0]
        for included in includes(path):
            target = included.split("/")[0]
            if "/" in included and folder in MAY_INCLUDE and target in MAY_INCLUDE and target != folder:
                if target not in MAY_INCLUDE[folder]:
                    wrong.append(f"{path.relative_to(SOURCE)} includes {included}")
    assert wrong == []


def test_fenced_headers_stay_in_their_folders():
    wrong = []
    for path in files():
        folder = path.relative_to(SOURCE).parts[0]
        for included in includes(path):
            for pattern, folders in FENCES.items():
                if re.fullmatch(pattern, included) and folder not in folders:
                    wrong.append(f"{path.relative_to(SOURCE)} includes {included}")
    assert wrong == []


def test_main_stays_short():
    assert len((SOURCE / "main.cpp").read_text().splitlines()) < 60
