"""Data brought in from elsewhere: shops, their products, and the orders that they have had, with their own times.

``run`` reads the files piece by piece, however large they are, and writes each shop's products and orders in batches, as the
role that sees this one shop alone. What is wrong with a line is told with its number, and the rest goes on; what is there
already is left as it is, so that a run that was killed goes on by being run again. The columns: `docs/import.md`.
"""

from ballast.mall.imports.columns import COLUMNS, Kind, template
from ballast.mall.imports.reading import UnreadableFile
from ballast.mall.imports.report import Count
from ballast.mall.imports.running import Files, Imported, Watch, run

__all__ = ["COLUMNS", "Count", "Files", "Imported", "Kind", "UnreadableFile", "Watch", "run", "template"]
