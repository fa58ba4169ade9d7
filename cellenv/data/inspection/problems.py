"""What is wrong with the tables and images of a folder: each problem names its rows, and what mends it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from cellenv.csv_io import Row
from cellenv.data.inspection.findings import ClassRow, PlateRow, Problem
from cellenv.data.inspection.image_scan import ImageScan
from cellenv.data.layouts import Layout
from cellenv.data.prepare.splits import HOW_TO_TEST
from cellenv.data.table import UNSEEN, RowErrors, is_held_out

NAMED = 20  # rows that a problem names
FEW_CONTROLS = 2  # a plate of a split with fewer starts all its contexts from one image
UNBALANCED = 20  # times as many images as in the smallest class
SPLITS = ("train", "test")  # those that runs read
SKIP = "--skip-bad leaves them out"


class TableRows:
    """Valid rows of the table of images: controls, and treated ones, held out and seen. splits: those that are used."""

    def __init__(
        self,
        table: Sequence[Row],
        layout: Layout,
        *,
        include_unseen: bool = False,
        splits: Sequence[str] = SPLITS,
    ):
        self.layout, self.splits = layout, splits
        self.treated = [row for row in table if layout.states[row[layout.state]]]
        self.held_out = [] if include_unseen else [row for row in self.treated if is_held_out(row, layout)]
        self.seen = [row for row in self.treated if include_unseen or not is_held_out(row, layout)]
        self.controls = [row for row in table if not layout.states[row[layout.state]]]
        self.split_of = {row["SAMPLE_KEY"]: row["SPLIT"] for row in table}

    @property
    def class_column(self) -> str:
        """Column of the mechanism of action, or of the compound where there is none."""
        return self.layout.label or self.layout.compound

    @property
    def used(self) -> set[str]:
        """Keys of the images of these splits that are trained or tested on."""
        return {row["SAMPLE_KEY"] for row in (*self.seen, *self.controls) if row["SPLIT"] in self.splits}

    def count(self, split: str, column: str) -> Counter[str]:
        """Seen images of a split by the value of a column."""
        return Counter(row[column] for row in self.seen if row["SPLIT"] == split)

    def classes(self) -> tuple[ClassRow, ...]:
        """The classes by name."""
        held_out = {row["SAMPLE_KEY"] for row in self.held_out}
        members: dict[str, list[Row]] = defaultdict(list)
        for row in self.treated:
            members[row[self.class_column]].append(row)
        return tuple(
            ClassRow(
                name=name,
                compounds=len({row[self.layout.compound] for row in own}),
                doses=len({(row[self.layout.compound], row.get("DOSE")) for row in own}),
                cells=dict(Counter(row["SPLIT"] for row in own if row["SAMPLE_KEY"] not in held_out)),
                held_out=sum(row["SAMPLE_KEY"] in held_out for row in own),
            )
            for name, own in sorted(members.items())
        )

    def plates(self) -> tuple[PlateRow, ...]:
        """The plates by name."""
        pairing = self.layout.pairing
        treated: dict[str, Counter[str]] = defaultdict(Counter)
        controls: dict[str, Counter[str]] = defaultdict(Counter)
        for rows, counts in ((self.treated, treated), (self.controls, controls)):
            for row in rows:
                counts[row[pairing]][row["SPLIT"]] += 1
        names = sorted(treated.keys() | controls.keys())
        return tuple(PlateRow(name=name, treated=dict(treated[name]), controls=dict(controls[name])) for name in names)


def _problem(title: str, rows: Iterable[str], mend: str, *, stops: bool = False) -> list[Problem]:
    """The problem of these rows; none without a row."""
    rows = list(rows)
    return [Problem(stops=stops, title=title, rows=tuple(rows[:NAMED]), count=len(rows), mend=mend)] if rows else []


def as_warning(problem: Problem) -> Problem:
    """The same, where a run goes on."""
    return replace(problem, stops=False)


def table_problems(errors: RowErrors, index: Path) -> list[Problem]:
    """Rows that the reader of the table refuses."""
    mend = f"correct {index.name}, or choose another table with --index FILE; {SKIP}"
    return _problem(f"rows of {index.name} cannot be read", errors.found, mend, stops=True)


def condition_problems(rows: TableRows, found: Mapping[str, Tensor | str], file: Path) -> list[Problem]:
    """Compounds without a condition of their own."""
    images = Counter(row[rows.layout.compound] for row in rows.treated)
    absent = [f"{name} ({n} images)" for name, n in sorted(images.items()) if name not in found]
    invalid = [text for name, text in found.items() if isinstance(text, str) and name in images]
    mend = f"add their rows to {file.name}, or choose another table with --embeddings FILE; {SKIP}"
    same: dict[bytes, list[str]] = defaultdict(list)
    for name in images:
        if not isinstance(value := found.get(name, ""), str):
            same[value.numpy().tobytes()].append(name)
    twins = [" = ".join(names) for names in same.values() if len(names) > 1]
    return [
        *_problem(f"compounds have no row in {file.name}", absent, mend, stops=True),
        *_problem(f"rows of {file.name} are invalid", invalid, mend, stops=True),
        *_problem(
            "sets of compounds have one condition: a generator cannot tell them apart",
            twins,
            "--embeddings FILE chooses a table that separates them",
        ),
    ]


def label_problems(rows: TableRows) -> list[Problem]:
    """Compounds of several mechanisms of action."""
    if (label := rows.layout.label) is None:
        return []
    named: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows.treated:
        named[row[rows.layout.compound]][row[label]] += 1
    several = [
        f"{compound}: {', '.join(f'{moa} ({n})' for moa, n in moas.most_common())}"
        for compound, moas in sorted(named.items())
        if len(moas) > 1
    ]
    return _problem(
        "compounds have several mechanisms of action",
        several,
        f"give each compound one in {label}, or --unlabelled reads none; {SKIP}",
        stops=True,
    )


def held_out_problems(rows: TableRows) -> list[Problem]:
    """Compounds that some rows hold out and others do not."""
    named: dict[str, Counter[bool]] = defaultdict(Counter)
    for row in rows.treated:
        named[row[rows.layout.compound]][is_held_out(row, rows.layout)] += 1
    return _problem(
        "compounds are held out by some of their rows, and not by others",
        [f"{name} ({n[True]} of {n.total()} images)" for name, n in sorted(named.items()) if len(n) > 1],
        f"write the same {UNSEEN} into all rows of a compound; {SKIP}",
        stops=True,
    )


def split_problems(rows: TableRows) -> list[Problem]:
    """Splits without an image or that no run reads, compounds that are held out, and those that cannot be evaluated."""
    compound = rows.layout.compound
    problems = []
    for split in rows.splits:
        if not rows.count(split, compound):
            values = Counter(row["SPLIT"] for row in rows.treated)
            own = [f"SPLIT {value!r}: {n} treated images" for value, n in values.items()] or ["no treated image"]
            mend = f"write {split!r} into SPLIT, or --split-names {split}=NAME"
            if split == "test":
                mend += f"; {HOW_TO_TEST}"
            if split in values:
                mend = "--include-unseen, as all its compounds are held out"
            problems += _problem(f"no treated image to {split} on", own, mend, stops=True)
    unread = Counter(split for split in rows.split_of.values() if split not in SPLITS)
    held_out = Counter(row[compound] for row in rows.held_out)
    single = [name for name, n in sorted(rows.count("test", compound).items()) if n < 2]
    return [
        *problems,
        *_problem(
            "values of SPLIT are read by no run: their images are left out",
            [f"{split!r} ({n} images)" for split, n in sorted(unread.items())],
            "nothing, if these are to stay out; else write train or test into SPLIT, or --split-names train=NAME",
        ),
        *_problem(
            "compounds are held out, and no model sees them",
            [f"{name} ({n} images)" for name, n in sorted(held_out.items())],
            "nothing, if these are to stay unseen (evaluate --unseen); --include-unseen trains on them too",
        ),
        *_problem(
            "compounds have one test image: an evaluation needs two, to compare the one with the other",
            single,
            "nothing, if the other compounds suffice; else move images of these to the test split",
        ),
    ]


def control_problems(rows: TableRows) -> list[Problem]:
    """Treated images without a control to start from, and plates with a single one."""
    layout = rows.layout
    counts = Counter((row[layout.pairing], row["SPLIT"]) for row in rows.controls)
    used = Counter((row[layout.pairing], row["SPLIT"]) for row in rows.treated)
    without = [
        f"{row['SAMPLE_KEY']} ({layout.pairing} {row[layout.pairing]}, {row['SPLIT']})"
        for row in rows.seen
        if row["SPLIT"] in rows.splits and not counts[row[layout.pairing], row["SPLIT"]]
    ]
    few = [
        f"{plate}, {split}: {counts[plate, split]} control for {used[plate, split]} treated images"
        for plate, split in sorted(used)
        if split in rows.splits and 0 < counts[plate, split] < FEW_CONTROLS
    ]
    mend = f"pair by another column with --pairing COLUMN, now {layout.pairing}"
    title = f"treated images have no control of their {layout.pairing} and split"
    return [
        *_problem(title, without, f"{mend}; {SKIP}", stops=True),
        *_problem(
            f"splits of a {layout.pairing} have a single control, from which all their contexts start", few, mend
        ),
    ]


def class_problems(rows: TableRows, min_cells: int) -> list[Problem]:
    """Classes with too few images to train on, and unequal ones."""
    if "train" not in rows.splits:
        return []
    train = rows.count("train", rows.class_column)
    for row in rows.seen:
        train[row[rows.class_column]] += 0  # classes that the train split lacks
    ordered = sorted(train.items(), key=lambda pair: pair[1])
    few = [f"{name} ({n})" for name, n in ordered if n < min_cells]
    kind = "mechanisms" if rows.layout.label else "compounds"
    problems = _problem(
        f"{kind} have fewer than {min_cells} images in the train split: `fit reference` refuses them",
        few,
        "--min-cells N allows fewer, at the price of a poor sigma; --by controls compares with controls instead",
    )
    filled = [(name, n) for name, n in ordered if n]
    if rows.layout.label and filled and filled[-1][1] > UNBALANCED * filled[0][1]:
        problems += _problem(
            f"the largest mechanism has more than {UNBALANCED} times the images of the smallest",
            [f"{name} ({n})" for name, n in (filled[-1], filled[0])],
            "nothing: classifiers draw mechanisms evenly; accuracies of the small ones are uncertain",
        )
    return problems


def image_problems(scan: ImageScan, rows: TableRows) -> list[Problem]:
    """What the scan of the pixels found."""

    def places(keys: Mapping[str, Sequence[str]]) -> list[str]:
        return [f"{key} ({name})" for name, of_name in keys.items() for key in of_name]

    copies = [" = ".join(keys) for keys in scan.copies]
    leaks = [" = ".join(keys) for keys in scan.copies if len({rows.split_of[key] for key in keys}) > 1]
    stops = not rows.used.isdisjoint(scan.unreadable)
    drop = "delete their rows from the table of images"
    return [
        *_problem("images cannot be read", scan.unreadable.values(), f"write them again; {SKIP}", stops=stops),
        *_problem("images stand in train and test: they are tested on what they were trained on", leaks, drop),
        *_problem("sets of images have the same pixels", copies, drop),
        *_problem(
            "images have two equal channels, as if one stain stood in the file twice",
            places(scan.equal),
            "write the images again; --channels, --nucleus and --cytoplasm choose stains that are there",
        ),
        *_problem("channels are blank", places(scan.blank), drop),
        *_problem("channels are saturated: over a tenth of the pixels are 255", places(scan.saturated), drop),
    ]
