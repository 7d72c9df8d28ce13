"""The included sample data set: 376 drawings in seven classes. `README.md` names their source."""

from pathlib import Path

DIRECTORY = Path(__file__).parent / "images"  # images/CLASS/NAME.png, for `Catalog.from_folder`
