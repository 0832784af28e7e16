"""Reads what pf2lora wrote (results.h5, adapters.h5; see FORMAT.md): datasets, tables, figures, a report."""

from . import ranks
from .check import check_format
from .loader import Adapters, FormatError, load, load_adapters, options

__all__ = ["Adapters", "FormatError", "check_format", "load", "load_adapters", "options", "ranks"]
