"""The sample data set that comes with the project: 376 drawings in seven classes. `README.md` says where from."""

from pathlib import Path

DIRECTORY = Path(__file__).parent / "images"  # images/CLASS/NAME.png: a folder for `Catalog.from_folder`
