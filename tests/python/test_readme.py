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

    links = re.findall(r"\]\(([^)h][^)]*)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
