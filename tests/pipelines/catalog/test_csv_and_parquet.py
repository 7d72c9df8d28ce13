"""Tables of image files: what is read, what a job writes and reads again, and one sentence for each error."""

import builtins
import csv
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import Catalog, InputError
from pipelines.catalog import open_data
from pipelines.catalog.csv_and_parquet import saved_rows


@pytest.fixture
def photos(tmp_path):
    """Files for tables: a/0.jpg to a/4.jpg, b/0.jpg to b/4.jpg."""
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(5):
            (tmp_path / label / f"{number}.jpg").touch()
    return tmp_path


def table(folder, *lines, name="data.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes("\n".join(lines).encode(encoding, "surrogateescape") + b"\n")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_columns_by_name(photos, separator, encoding):
    lines = ["file|kind|part|person", "a/0.jpg|crème|Train|p1", "", '"b/1.jpg"|"b, or; c"|VAL|', "b/2.jpg|d||p1"]
    path = table(photos, *(line.replace("|", separator) for line in lines), encoding=encoding)
    catalog = Catalog.from_csv(path, label="kind", split="part", group="person", path="file")
    assert catalog.paths == tuple(str(photos / name) for name in ("a/0.jpg", "b/1.jpg", "b/2.jpg"))
    assert catalog.labels == ("crème", "b, or; c", "d")
    assert catalog.splits == ("train", "validation", "")
    assert catalog.groups == ("p1", "", "p1") and catalog.exclusion_reasons == ("", "", "")


def test_columns_have_default_names(photos):
    catalog = open_data(table(photos, "split,label,path", "test,x,a/0.jpg", "train,y,a/1.jpg"))
    assert (catalog.labels, catalog.splits) == (("x", "y"), ("test", "train"))
    assert open_data(table(photos, "label,path", "x,a/0.jpg")).splits == ("",)


def test_paths_are_relative_to_the_table_or_to_a_root(photos, tmp_path):
    (photos / "tables").mkdir()
    path = table(photos / "tables", "path,label", "0.jpg,x", f"{photos}/b/0.jpg,y")
    assert Catalog.from_csv(path, root=photos / "a").paths == (str(photos / "a/0.jpg"), str(photos / "b/0.jpg"))
    with pytest.raises(InputError, match=r"relative to .*/tables"):
        Catalog.from_csv(path)


def test_several_label_columns_are_multi_label(photos):
    path = table(
        photos, "path,cat,dog,reason", "a/0.jpg,1,0,", "a/1.jpg,1,1,", "a/2.jpg,0,0.0,odd", "a/3.jpg,False,true,"
    )
    catalog = Catalog.from_csv(path, label=("cat", "dog"))
    assert catalog.labels == (("cat",), ("cat", "dog"), (), ("dog",))
    assert catalog.multi_label and catalog.classes == ("cat", "dog")
    assert catalog.targets(catalog.included()).tolist() == [[1, 0], [1, 1], [0, 0], [0, 1]]


def test_a_label_column_without_a_1_is_refused(photos):
    path = table(photos, "path,cat,dog", "a/0.jpg,1,0", "a/1.jpg,1,0")
    with pytest.raises(InputError, match=r"must contain at least one 1\. Received: none in 'dog'\. Omit it\.$"):
        Catalog.from_csv(path, label=("cat", "dog"))


def test_the_table_of_a_job_is_read_again(photos, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (photos / "a").rename(folder / "a, b")
    (photos / "b").rename(folder / " c")
    (folder / " c" / "notes.txt").touch()
    catalog = Catalog.from_folder(folder).exclude({1: "torn; or, 'so'"}).split(seed=3)
    (tmp_path / "runs").mkdir()
    catalog.to_csv(tmp_path / "runs" / "catalog.csv")
    again = open_data(tmp_path / "runs" / "catalog.csv")
    for column in ("paths", "labels", "splits", "groups", "exclusion_reasons"):
        assert getattr(again, column) == getattr(catalog, column)
    assert again.split(seed=4).splits == catalog.splits


def test_paths_of_a_written_table_do_not_depend_on_the_working_directory(photos, monkeypatch):
    monkeypatch.chdir(photos)
    Catalog.from_csv(table(photos, "path,label", "a/0.jpg,x")).to_csv(photos / "a" / "catalog.csv")
    Catalog.from_csv("data.csv").to_csv(photos / "b" / "catalog.csv")
    monkeypatch.chdir("/")
    for folder in "ab":
        assert Catalog.from_csv(photos / folder / "catalog.csv").paths == (str(photos / "a/0.jpg"),)


def test_several_label_columns_are_read_again(photos):
    path = table(
        photos, "path,cat,dog", "a/0.jpg,1,0", "a/1.jpg,1,1", "a/2.jpg,0,0", "a/3.jpg,0,1", "b/1.jpg,1,0", "b/0.jpg,0,1"
    )
    catalog = Catalog.from_csv(path, label=("cat", "dog")).split()
    catalog.to_csv(photos / "catalog.csv")
    assert (photos / "catalog.csv").read_text().splitlines()[:2] == [
        "path,label,split,group,reason,label:cat,label:dog",
        f"{photos}/a/0.jpg,cat,{catalog.splits[0]},,,1,0",
    ]
    again = Catalog.from_csv(photos / "catalog.csv")
    assert (again.labels, again.splits) == (catalog.labels, catalog.splits)


def test_a_written_table_may_get_more_columns(photos):
    catalog = Catalog.from_csv(
        table(photos, "path,label,split,group,reason,width", "a/0.jpg,x,,,,12", "a/no.jpg,,,,torn,")
    )
    assert catalog.labels == ("x", "") and catalog.exclusion_reasons == ("", "torn") and not catalog.multi_label


def test_a_group_stays_in_one_split(photos):
    lines = [f"{label}/{number}.jpg,{label},{label}{number // 2}" for label in "ab" for number in range(5)]
    for seed in range(20):
        catalog = Catalog.from_csv(table(photos, "path,label,group", *lines)).split(seed)
        assert len(set(zip(catalog.groups, catalog.splits, strict=True))) == 6


def test_parquet(photos):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    columns = {"path": ["a/0.jpg", "b/1.jpg"], "label": [7, 10], "split": ["train", None], "dog": [True, False]}
    parquet.write_table(pyarrow.table({**columns, "cat": [1, 0]}), photos / "data.parquet")
    catalog = open_data(photos / "data.parquet")
    assert (catalog.labels, catalog.splits, catalog.classes) == (("7", "10"), ("train", ""), ("7", "10"))
    assert Catalog.from_csv(photos / "data.parquet", label=("cat", "dog")).labels == (("cat", "dog"), ())
    (photos / "torn.parquet").write_bytes((photos / "data.parquet").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"torn\.parquet cannot be read as Parquet: "):
        open_data(photos / "torn.parquet")


def test_without_pyarrow_the_error_says_what_to_install(photos, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *arguments)

    (photos / "data.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        InputError, match=r'not installed\. Received: .*data\.parquet\. Run: pip install "keras-cnn\[parquet\]"$'
    ):
        open_data(photos / "data.parquet")


WRONG = {
    "missing files": (
        ["path,label", "a/0.jpg,x", "a/none.jpg,x", "a/gone.jpg,y"],
        "Each row of {table} must name a file. Received: 2 of 3 that do not exist, such as {folder}/a/none.jpg. Correct the "
        "paths, which are relative to {folder}, or remove the rows.",
    ),
    "no such column": (
        ["path,fine,coarse", "a/0.jpg,x,y"],
        "{table} has no column 'label'. Received: 'path', 'fine', 'coarse'. Use one of these. The first line must name the "
        "columns, separated by commas, semicolons or tabs.",
    ),
    "no header": (["a/0.jpg,x", "a/1.jpg,y"], "{table} has no column 'path'. Received: 'a/0.jpg', 'x'."),
    "wrong separator": (["path|label", "a/0.jpg|x"], "{table} has no column 'path'. Received: 'path|label'."),
    "mixed separators": (
        ["path,label", "a/0.jpg,x", "a/1.jpg;y"],
        "Each line of {table} must have 2 cells, like the first one. Received: 1 in line 3. Put cells with a separator "
        "into double quotes.",
    ),
    "a file twice": (
        ["path,label", "a/0.jpg,x", "a/../a/./0.jpg,y"],
        "Each file may have one row. Received: {folder}/a/0.jpg in two rows of {table}, labelled 'x' and 'y'. Remove one; "
        "several labels of a file are several columns of 0 and 1.",
    ),
    "no label": (
        ["path,label", "a/0.jpg,x", "a/1.jpg,"],
        "Each row of {table} needs a label. Received: none for {folder}/a/1.jpg. Fill it or remove the row.",
    ),
    "unknown split": (
        ["path,label,split", "a/0.jpg,x,fold3"],
        "The splits of {table} must be train, validation or test. Received: 'fold3' for {folder}/a/0.jpg. Rename it, "
        "or the column.",
    ),
    "nothing": ([""], "{table} must be a table of image files. Received: nothing in its first line. "),
    "a header only": (["path,label"], "{table} must be a table of image files. Received: no row below the first line."),
    "a column twice": (
        ["path,label,label", "a/0.jpg,x,y"],
        "Each column needs a different name. Received: 'label' twice in {table}. ",
    ),
    "a quote left open": (
        ["path,label", '"a/0.jpg,x', "a/1.jpg,y"],
        "{table} cannot be read as a table from line 3 on: unexpected end of data. Correct it.",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_tables_are_refused_in_one_sentence(photos, kind):
    lines, sentence = WRONG[kind]
    path = table(photos, *lines)
    with pytest.raises(InputError) as error:
        open_data(path)
    expected = sentence.format(table=path, folder=photos)
    assert str(error.value)[: len(expected)] == expected and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "received"),
    [
        ("path,label\na/0.jpg,café\n".encode("latin-1"), r"b'caf\\xe9'"),
        ("path,label,größe\na/0.jpg,x,1\n".encode("latin-1"), r"b'gr\\xf6\\xdfe'"),
        ("path,label\na/café.jpg,x\n".encode("latin-1"), r"b'.*a/caf\\xe9\.jpg'"),
        ("path,label\na/0.jpg,x\n".encode("utf-16"), "zero bytes, as in UTF-16"),
        ("路徑，標籤".encode("utf-16"), "the byte order mark of UTF-16"),
    ],
)
def test_other_encodings_are_refused(photos, content, received):
    (photos / "data.csv").write_bytes(content)
    with pytest.raises(
        InputError, match=rf"data\.csv must be text in UTF-8\. Received: {received}\. Save it as UTF-8\.$"
    ):
        open_data(photos / "data.csv")


def test_unknown_values_of_label_columns_are_refused(photos):
    path = table(photos, "path,cat,dog", "a/0.jpg,1,0", "a/1.jpg,1,yes")
    sentence = r"columns of .* must contain 0 or 1\. Received: 'yes' in 'dog' for .*a/1\.jpg\.$"
    with pytest.raises(InputError, match=sentence):
        Catalog.from_csv(path, label=("cat", "dog"))


def test_options_for_the_other_kind_of_data_are_refused(photos):
    path = table(photos, "path,label", "a/0.jpg,x")
    with pytest.raises(InputError, match=r"^The option class_folder is for folders\. Received: .*csv, a file\.$"):
        open_data(path, class_folder="last")
    with pytest.raises(InputError, match=r"^The option label is for tables\. Received: .*, a folder\.$"):
        open_data(photos, label="fine")
    with pytest.raises(InputError, match=r"/a cannot be read: Is a directory\.$"):
        Catalog.from_csv(photos / "a")


def test_a_class_without_a_training_image_is_refused(photos):
    lines = [f"a/{n}.jpg,x,{split}" for n, split in enumerate(("train", "validation", "test"))]
    path = table(photos, "path,label,split", *lines, "b/0.jpg,y,test", "b/1.jpg,y,test")
    with pytest.raises(
        InputError, match=r"^Each class needs a training image\. Received: none of 'y' in the split train\. "
    ):
        Catalog.from_csv(path).check().split()


def test_a_single_group_cannot_be_split(photos):
    lines = [f"{label}/{n}.jpg,{label},one" for label in "ab" for n in range(5)]
    with pytest.raises(
        InputError,
        match=r"^Each split needs an image\. Received: none for validation\. Add images, or use smaller groups\.$",
    ):
        Catalog.from_csv(table(photos, "path,label,group", *lines)).split()


def test_paths_with_zero_bytes_and_very_long_paths_are_missing_files(photos):
    path = table(photos, "path,label", "a/0.jpg,x", f"{'x' * 5000}.jpg,y", "a/\0.jpg,y")
    with pytest.raises(InputError, match=r"Received: 2 of 3 that do not exist"):
        Catalog.from_csv(path)
    assert os.listdir(photos).count("data.csv") == 1


@pytest.mark.parametrize(
    "lines",
    [
        ["sep=;", "path;label", "a/0.jpg;x, y"],
        ["SEP=,", "path,label", 'a/0.jpg,"x, y"'],
        ["sep=\t", "path\tlabel", "a/0.jpg\tx, y"],
        [r"sep=\t", "path\tlabel", "a/0.jpg\tx, y"],
        ["sep=|", "path|label", "a/0.jpg|x, y"],
        ['"sep=;"', '"path";"label"', '"a/0.jpg";"x, y"'],
        ['"path","label"', '"a/0.jpg","x, y"'],
        ["path;label,;fine,;coarse,", "a/0.jpg;b;c;d"],
        ['path,"note; with; three; semicolons",label', 'a/0.jpg,z,"x, y"'],
        ["path,note;of;mine,label", 'a/0.jpg,z,"x, y"'],
        ["path;label;;", "a/0.jpg;x, y;;", "a/1.jpg;x, y"],
        ["path;label", "a/0.jpg;x, y;;"],
    ],
    ids=lambda lines: lines[0],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_tables_from_spreadsheets_are_read(photos, lines, end, mark):
    (photos / "data.csv").write_bytes((mark + end.join(lines) + end).encode())
    label = "label" if "label," not in lines[0] else "coarse,"
    assert set(Catalog.from_csv(photos / "data.csv", label=label).labels) == {"x, y" if label == "label" else "d"}


WRONG_SHEETS = {
    "an empty separator": (["sep=", "path;label", "a/0.jpg;x"], "The first line of {table} must name one character"),
    "two characters": (
        ["sep=;;", "path;label", "a/0.jpg;x"],
        "one character that separates columns. Received: 'sep=;;'. Correct it, for example",
    ),
    "nothing else": (["sep=;"], "a table of image files. Received: nothing in the line after 'sep=;'."),
    "a header only": (["sep=;", "path;label"], "a table of image files. Received: no row below the header."),
    "another separator": (
        ["sep=,", "path;label", "a/0.jpg;x"],
        "{table} has no column 'path'. Received: 'path;label'.",
    ),
    "a short line": (["sep=;", "path;label", "a/0.jpg;x", "a/1.jpg"], "like the first one. Received: 1 in line 4."),
    "an open quote": (
        ["sep=;", "path;label", '"a/0.jpg;x', "a/1.jpg;y"],
        "cannot be read as a table from line 4 on: unexpected",
    ),
    "two unnamed columns": (
        ["path,,,label", "a/0.jpg,1,2,x"],
        "Each column needs a different name. Received: '' twice",
    ),
    "a value without a column": (
        ["path,label,", "a/0.jpg,x,1"],
        "must have 2 cells, like the first one. Received: 3 in line 2.",
    ),
    "a cell without an end": (["x" * 200_000], "cannot be read as a table from line 1 on: field larger than"),
    "a column twice": (["sep=;", "path;label;label", "a/0.jpg;x;y"], "Received: 'label' twice in {table}."),
}


@pytest.mark.parametrize("kind", WRONG_SHEETS)
def test_wrong_sheets_are_refused_for_what_is_wrong(photos, kind):
    lines, sentence = WRONG_SHEETS[kind]
    path = table(photos, *lines)
    with pytest.raises(InputError) as error:
        open_data(path)
    assert sentence.format(table=path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_sheets_in_utf_16_are_refused_as_that(photos, encoding):
    (photos / "data.csv").write_bytes("sep=;\r\npath;label\r\na/0.jpg;x\r\n".encode(encoding))
    with pytest.raises(
        InputError, match=r"must be text in UTF-8\. Received: zero bytes, as in UTF-16\. Save it as UTF-8\.$"
    ):
        open_data(photos / "data.csv")


NAMES = st.text(
    st.sampled_from("=+-@'\t\r\n\"\\,; é＝\u202e\x1b") | st.characters(codec="utf-8", exclude_characters="\0"),
    min_size=1,
)


@given(labels=st.lists(NAMES, min_size=1, max_size=4), group=NAMES | st.just(""), reason=NAMES | st.just(""))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_in_a_table_of_a_run_is_read_again_and_is_no_formula(photos, labels, group, reason):
    paths = tuple(str(photos / "a" / f"{number}.jpg") for number in range(len(labels)))
    count = len(paths)
    catalog = Catalog(paths, tuple(labels), ("train",) * count, (group,) * count, (reason,) * count)
    catalog.to_csv(photos / "catalog.csv", range(count))
    again = Catalog.from_csv(photos / "catalog.csv")
    assert (again.paths, again.labels, again.groups, again.exclusion_reasons) == (
        catalog.paths,
        catalog.labels,
        catalog.groups,
        catalog.exclusion_reasons,
    )
    with open(photos / "catalog.csv", encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\n")]
    assert [row["label"] for row in saved_rows(photos / "catalog.csv")] == labels


@given(NAMES, NAMES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_of_several_labels_is_read_again(photos, first, second):
    paths = tuple(str(photos / "a" / f"{number}.jpg") for number in range(3))
    catalog = Catalog(paths, ((first,), (second,), ()), ("train",) * 3, ("",) * 3, ("",) * 3)
    catalog.to_csv(photos / "catalog.csv")
    again = Catalog.from_csv(photos / "catalog.csv")
    assert (again.labels, again.classes) == (catalog.labels, catalog.classes)


def test_a_label_of_somebody_else_is_read_as_it_stands(photos):
    path = table(photos, "path,label", "a/0.jpg,'=x", "a/1.jpg,=x", "a/2.jpg,-1", "a/3.jpg,'q'")
    assert Catalog.from_csv(path).labels == ("'=x", "=x", "-1", "'q'")


def test_rows_that_are_added_to_the_table_of_a_run_need_no_fingerprint(photos):
    Catalog.from_csv(table(photos, "path,label", "a/0.jpg,x", "a/1.jpg,y")).to_csv(photos / "catalog.csv", [123, ""])
    with open(photos / "catalog.csv", "a", newline="") as file:
        file.write(f"{photos}/b/0.jpg,x,,,\r\n{photos}/b/1.jpg,y,,,,\r\n")
    assert (photos / "catalog.csv").read_text().splitlines()[:2] == [
        "path,label,split,group,reason,fingerprint",
        f"{photos}/a/0.jpg,x,,,,123",
    ]
    assert Catalog.from_csv(photos / "catalog.csv").labels == ("x", "y", "x", "y")


def test_the_table_of_a_run_that_a_spreadsheet_saved_is_refused_by_its_columns(tmp_path):
    table = tmp_path / "catalog.csv"
    table.write_text("path;label;split\na.png;cat;train\n")
    with pytest.raises(
        InputError, match=r"must have the columns path and split, .* Received: path;label;split\. Save it"
    ):
        saved_rows(table)
