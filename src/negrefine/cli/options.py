"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from negrefine.cli.bundles import option
from negrefine.cli.given import Given
from negrefine.cli.output import say
from negrefine.encoders.names import BUILTIN_PHOTO
from negrefine.errors import BundleError, InputError
from negrefine.labels.class_names import read_class_names, read_names
from negrefine.pretrained.hub_address import hub_address, is_hub_address
from negrefine.shown_text import is_utf8
from negrefine.similar_names import hint

if TYPE_CHECKING:
    from negrefine.detectors import Detector
    from negrefine.encoders import CLIPEncoder

DETECTOR_DIR = typer.Argument(
    metavar="DETECTOR_DIR",
    help="Directory written by 'negrefine fit', or 'hf://user/name[@revision]' on the hub.",
)
SOURCES_TEXT = (
    "files, folders, quoted patterns, URLs, archives (tar, zip), tables (Parquet) or '@list.txt' "
    "with one of these on each line"
)
SOURCES = typer.Argument(
    metavar="IMAGES",
    help=f"{SOURCES_TEXT[0].upper()}{SOURCES_TEXT[1:]}; '-' reads such lines from standard input.",
)
IMAGE_COLUMN = option(
    None, "The column with the images of tables; default: the only one that can be it.", "NAME"
)
OOD_SETS = option(
    ...,
    "An OOD set: a folder, file, quoted pattern, URL, archive, table or '@list.txt'; may be given "
    "several times.",
    "NAME=IMAGES",
    name="--ood",
)
ID_IMAGES = option(
    ...,
    f"In-distribution images: {SOURCES_TEXT}; may be given several times.",
    "IMAGES",
    name="--id",
)
VALIDATION_TEXT = (
    "The OOD set on which settings are compared: the highest AUROC is chosen, and the results say "
    "so. No other option may have the same images."
)
AS_JSON = option(False, "Print JSON instead of text.", name="--json")
ENCODER_HELP = (
    "Hub id such as 'openai/clip-vit-base-patch16', a model's directory, 'builtin-photo' (a "
    "small one for photographs, inside the package) or 'builtin' (a toy for emoji and icons)."
)
CLASSES_HELP = (
    "Text file with one class name per line, or JSON, YAML or a table with names; or a list of a "
    "benchmark such as 'imagenet-1k'."
)
CLASSES_METAVAR = "FILE|PRESET"
UNDERSCORES_AS_SPACES = option(
    False, "Read 'tabby_cat' in FILE as 'tabby cat'.", name="--underscores-as-spaces"
)
DEVICE = option("auto", "'auto' (a GPU if there is one), 'cpu', 'cuda' or 'cuda:1'.", "DEVICE")
DTYPE = option("auto", "'auto' (float32), 'float32', 'float16' or 'bfloat16'.", "DTYPE")
FPR = option(
    None, "Guaranteed false-alarm rate of the threshold on in-distribution images; default: 0.05."
)
DELTA = option(
    None,
    "Guarantee the rate of this very threshold with probability 1 - DELTA instead of the mean "
    "rate over calibrations; needs more images.",
)
BY = option(
    None,
    "'class': guarantee the rate of each predicted class, with a threshold of its own where it has "
    "enough images; the other classes share one. Default: one threshold for all images.",
    "class",
)
BOOTSTRAP = option(1000, "Resamples for the confidence intervals; 0 for none.", min=0)
BATCH_SIZE = option(64, "Images to encode at a time.", min=1)
ALLOW_INCOMPLETE = option(
    False,
    "Run on the images that are there; the numbers are then marked as not comparable.",
    name="--allow-incomplete",
)
ABLATION = option(False, "Also NegRefine without NegFilter and S_MM.", name="--ablation")


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """The encoder of a new detector."""

    encoder: str | None = option(..., ENCODER_HELP, "ID_OR_DIR")
    resample: str | None = option(
        None, "'bicubic' or 'bilinear' instead of the model's own resize filter.", "FILTER"
    )
    exif_orientation: bool | None = option(
        None,
        "Turn photographs upright by their EXIF tag, or not. [default: upright; 'reproduce': not]",
        name="--exif-orientation/--no-exif-orientation",
    )
    background: str | None = option(
        None,
        "What transparent pixels show: 'white', another colour such as '#7f7f7f', or 'none' for "
        "the colours hidden below. [default: white; 'reproduce': none]",
        "COLOUR",
    )
    cache: bool = option(
        True,
        "Keep prompt embeddings in $NEGREFINE_CACHE or the user's cache directory (at most 4 GB), "
        "which makes the next run with this encoder faster.",
    )
    device: str = DEVICE
    dtype: str = DTYPE

    def load(self, **defaults: Any) -> CLIPEncoder:
        """Load the encoder; the defaults, as for `load_encoder`, hold for options not given."""
        from negrefine.encoders import load_encoder

        given = {key: value for key, value in asdict(self).items() if value is not None}
        if self.background is not None:
            given["background"] = _parse_background(self.background)
        return load_encoder(given.pop("encoder"), **{**defaults, **given})


@dataclass(frozen=True, kw_only=True)
class DefaultEncoderOptions(EncoderOptions):
    """The encoder of a new detector, by default the one for photographs inside the package."""

    encoder: str | None = option(None, f"{ENCODER_HELP} [default: {BUILTIN_PHOTO}]", "ID_OR_DIR")

    def load(self, **defaults: Any) -> CLIPEncoder:
        """Load the encoder, and say on standard error if it is the default one."""
        if self.encoder is not None:
            return super().load(**defaults)
        say(
            f"No --encoder is given: {BUILTIN_PHOTO!r}, which is small and knows photographs of "
            "everyday things; a CLIP model is far better.",
            err=True,
        )
        return replace(self, encoder=BUILTIN_PHOTO).load(**defaults)


@dataclass(frozen=True, kw_only=True)
class SavedDetector:
    """A detector that was saved by `fit`."""

    detector_dir: Path = DETECTOR_DIR
    encoder: str | None = option(
        None,
        "The encoder the detector was fitted with, if it moved; default: as saved.",
        "ID_OR_DIR",
    )
    device: str = DEVICE
    dtype: str = DTYPE

    def check_order(self, images: Sequence[str]) -> None:
        """Raise InputError if a detector is among the images and not where it belongs."""
        if _is_detector(self.detector_dir):
            return
        for each in images:
            if _is_detector(Path(each)):
                raise InputError(
                    f"{str(self.detector_dir)!r} is no saved detector, and {each!r} is one: give "
                    "the detector first, then the images."
                )

    def check_own(self, instead: str = "") -> None:
        """Raise InputError for a detector on the hub where it is to be saved in its place."""
        if is_hub_address(self.detector_dir):
            raise InputError(
                f"{str(self.place())!r} is on the hub, and the detector is saved in its place: "
                f"make a copy with 'negrefine pull'{instead}."
            )

    def place(self) -> Path | str:
        """Return the directory, or the address on the hub as it was given."""
        if not is_hub_address(self.detector_dir):
            return self.detector_dir
        return str(hub_address(self.detector_dir, BundleError))

    def load(self) -> Detector:
        """Load the detector with its encoder; of one from the hub, say which commit it is."""
        from negrefine.detectors import load_detector

        place = pinned_place(self.place())
        return load_detector(place, self.encoder, device=self.device, dtype=self.dtype)


@dataclass(frozen=True, kw_only=True)
class ClassOptions:
    """The class names."""

    classes: str = option(..., CLASSES_HELP, CLASSES_METAVAR)
    underscores_as_spaces: bool = UNDERSCORES_AS_SPACES

    def read(self) -> list[str]:
        """Return the class names; a file wins over a preset of its name."""
        from negrefine.benchmarks import class_list, list_class_lists

        path = Path(self.classes)
        if not (path.exists() or path.suffix or len(path.parts) > 1):
            try:
                names = class_list(self.classes)
            except InputError as error:
                known = hint(self.classes, list_class_lists())
                if "," in self.classes:
                    known = "write the names into a file, one per line, and give its name."
                raise InputError(
                    f"There is neither a file nor a class list {self.classes!r}: {known}"
                ) from error
            if self.underscores_as_spaces:
                raise InputError(
                    f"--underscores-as-spaces has no effect on the list {self.classes!r}, whose "
                    "names are written with spaces: leave it out."
                )
            return names
        if path.exists() and self.classes in list_class_lists():
            warnings.warn(
                f"The file {self.classes!r} is read, not the list of the same name: give "
                f"'./{self.classes}' to say so, or rename it for the list.",
                stacklevel=2,
            )
        return read_class_names(self.classes, underscores_as_spaces=self.underscores_as_spaces)


@dataclass(frozen=True, kw_only=True)
class LexiconOptions:
    """The words to mine."""

    lexicon: Path | None = option(
        None,
        "Words to mine instead of WordNet 3.1: .tsv[.gz] with the columns word, lexname and pos.",
        "FILE",
    )
    min_frequency: int = option(
        0,
        "Mine only WordNet words that occur at least this often in its tagged texts: 1 is five "
        "times faster and keeps the common words.",
        min=0,
    )

    def given(self) -> dict[str, Given]:
        """Return the lexicon as a parameter, empty if no option was given."""
        from negrefine.labels.lexicon import Lexicon

        if self.lexicon is None:
            words = (
                Lexicon.wordnet(min_frequency=self.min_frequency) if self.min_frequency else None
            )
            return {"lexicon": Given("--min-frequency", words)} if words else {}
        if self.min_frequency:
            raise InputError("--min-frequency works on WordNet only: leave it or --lexicon out.")
        return {"lexicon": Given("--lexicon", Lexicon.from_tsv(self.lexicon))}


@dataclass(frozen=True, kw_only=True)
class WordLists:
    """The user's decisions about single words."""

    keep: Path | None = option(None, "Words the filter must not remove.", "FILE")
    drop: Path | None = option(None, "Words to remove without asking.", "FILE")

    def given(self) -> dict[str, Given]:
        """Return the lists as parameters, without those that were not given."""
        files = {"keep": self.keep, "drop": self.drop}
        return {
            name: Given(f"--{name}", read_names(file, f"list of words to {name}", "word"))
            for name, file in files.items()
            if file
        }


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """What negative labels are made of, and which of them stay."""

    words: LexiconOptions
    lists: WordLists
    prompts: Path | None = option(
        None,
        "Prompt templates instead of the published ones: JSON lists by name (class_name, noun, "
        'adjective, no), such as \'{"class_name": ["a photo of a {}."]}\'.',
        "FILE",
    )

    def given(self) -> dict[str, Given]:
        """Return the parameters that were given."""
        from negrefine.labels.prompts import Prompts

        given = {**self.words.given(), **self.lists.given()}
        if self.prompts is not None:
            given["prompts"] = Given("--prompts", Prompts.from_json(self.prompts))
        return given


@dataclass(frozen=True, kw_only=True)
class ImageFolders:
    """Where the images of a benchmark are."""

    data: Path | None = option(None, "Folder that holds the data sets.", "ROOT")
    folder: list[str] = option(
        [], "Folder of one set that is not below ROOT; may be given several times.", "SET=DIR"
    )

    def by_set(self) -> dict[str, Path]:
        """Return set name to folder of --folder."""
        folders = named_folders("--folder", self.folder, name="SET", value="DIR")
        return {name: Path(folder) for name, folder in folders.items()}


def pinned_place(place: Path | str) -> Path | str:
    """Return a directory as it is, and of an address on the hub that of its commit, which is said.

    What is loaded twice is then the same detector both times.
    """
    if not is_hub_address(place):
        return place
    from negrefine.detectors.hub import pinned

    address = pinned(place)
    if address != str(place):
        say(f"The detector is {address}", err=True)
    return address


def _is_detector(directory: Path) -> bool:
    return (directory / "detector.json").is_file()


def _parse_background(text: str) -> tuple[int, int, int] | None:
    if text.strip().lower() == "none":
        return None
    from PIL import ImageColor

    try:
        red, green, blue, *alpha = ImageColor.getrgb(text.strip())
        if alpha:
            raise ValueError(text)
    except ValueError as error:
        raise InputError(
            f"--background takes a colour such as 'white' or '#7f7f7f', or 'none', not {text!r}."
        ) from error
    return red, green, blue


def split_list(option_name: str, text: str) -> list[str]:
    """Return the different parts between commas, at least one."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise InputError(f"{option_name} is empty: give at least one, separated by commas.")
    return list(dict.fromkeys(parts))


def named_folders(
    option_name: str, texts: Sequence[str], name: str = "NAME", value: str = "IMAGES"
) -> dict[str, str]:
    """Return name to folder from texts such as "food=images/food", each with a new name."""
    folders: dict[str, str] = {}
    for text in texts:
        key, _, folder = text.partition("=")
        if not key or not folder or key in folders:
            raise InputError(
                f"{option_name} takes {name}={value} with a new {name} each time, such as "
                f"'food=images/food', not {text!r}."
            )
        if not is_utf8(key):
            raise InputError(f"The name {key!r} is not valid Unicode: give another one.")
        # The shell leaves a "~" after "=" alone.
        folders[key] = os.path.expanduser(folder)  # noqa: PTH111 - Path raises for unknown users
    return folders
