"""README.md says what the program says."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("PF2LORA_PROGRAM", str(ROOT / "build/release/pf2lora"))


def test_readme_shows_the_help_page_as_it_is():
    page = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True).stdout
    indented = "".join(f"    {line}" if line.strip() else line for line in page.splitlines(keepends=True))
    assert indented in (ROOT / "README.md").read_text()


def test_every_file_that_readme_links_to_exists():
    import re

    text = "\n".join(line for line in (ROOT / "README.md").read_text().splitlines() if not line.startswith("    "))
    links = re.findall(r"\]\(([^)h][^)]*)\)", text)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_readme_shows_the_example_of_a_method_as_it_is_compiled_and_tested():
    listing = (ROOT / "tests/algorithm/example_method.cpp").read_text()
    indented = "".join(f"    {line}" if line.strip() else line for line in listing.splitlines(keepends=True))
    page = (ROOT / "README.md").read_text()
    assert f"as `src/algorithm/fedavgm.cpp`:\n\n{indented}\nIn [src/algorithm/registry.cpp]" in page
    rows = (ROOT / "src/algorithm/registry.cpp").read_text()
    assert rows.count("homlora()") == 2  # declared, and in the table, which is all that README says of a row
    assert not (ROOT / "src/algorithm/fedavgm.cpp").exists()
