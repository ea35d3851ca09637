"""The card of a saved detector: Markdown that says what it is, what it promises and what not.

Everything in it is read from the directory; nothing is computed with the encoder, and nothing is
said that the directory does not say. Names that others have chosen are shown as text.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from negrefine.detectors.bundle import MANIFEST
from negrefine.detectors.card_words import (
    choices,
    guarantee,
    label_sentences,
    named,
    not_promised,
    without_folders,
)
from negrefine.detectors.described import Described
from negrefine.detectors.registry import FROZEN, saved_methods
from negrefine.encoders.names import EMBEDDED
from negrefine.encoders.recommended import recommended
from negrefine.proposers.base import WORDNET_PROPOSER
from negrefine.shown_text import json_text, visible
from negrefine.text_tables import markdown_table, markdown_text

_LISTED, _IN_A_ROW, _CHARACTERS = 200, 4, 120
_MARK = re.compile(r"\n<!-- negrefine card ([0-9a-f]{64}) -->\n\Z")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def detector_card(
    path: str | os.PathLike[str], *, address: str | None = None, licence: str | None = None
) -> str:
    """Return the card of a saved detector as Markdown with a YAML header, as the hub shows it.

    The last line holds a digest of the rest, by which `is_unedited` knows a card that nobody has
    edited since. The same directory gives the same bytes.

    Args:
        path: The directory.
        address: Where it will be found, such as "hf://ann/fruits"; None: DETECTOR_DIR.
        licence: The identifier of a licence that whoever shares the detector gives it, such as
            "cc-by-4.0".

    Raises:
        BundleError: As `load_detector`, but for the encoder, which is not loaded.

    Example:
        >>> import tempfile, negrefine
        >>> encoder = negrefine.load_encoder("builtin")
        >>> detector = negrefine.MCM(encoder).fit(["cat", "dog"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     detector.save(folder)
        ...     detector_card(folder).split()[:3]
        ['---', 'library_name:', 'negrefine']
    """
    found = Described.read(path)
    names = found.manifest["class_names"]
    where = address or "DETECTOR_DIR"
    parts = [
        _front_matter(found, licence),
        f"# {markdown_text(found.title)} detector of {len(names):,} "
        f"class{'' if len(names) == 1 else 'es'}\n",
        "Tells which images show none of the classes below (zero-shot out-of-distribution "
        f"detection). It was made from {_origin(found)} by "
        "[negrefine](https://pypi.org/project/negrefine/).\n",
        "## Use\n",
        _use(where),
        "## Classes\n",
        _classes(names),
        "## What it is made of\n",
        _made_of(found),
        *([f"{' '.join(label_sentences(found))}\n"] if found.labels is not None else []),
        *([f"{choices(found)}\n"] if found.chosen_on_images else []),
        "## Threshold\n",
        guarantee(found.manifest, found.arrays) + "\n",
        "## Intended use\n",
        "Setting images aside for a person to look at: photographs that belong to no class of a "
        "classifier, pictures that got into a collection by mistake, classes that are new. The "
        "images should be like those the encoder was trained on.\n",
        "## What it does not promise\n",
        "".join(f"* {sentence}\n" for sentence in not_promised(found.encoder)),
        "## Licences\n",
        "".join(f"* {sentence}\n" for sentence in _licences(found, licence)),
    ]
    return sealed_card("\n".join(parts))


def sealed_card(text: str) -> str:
    """Return a card with the digest of its text at its end."""
    return f"{text}\n<!-- negrefine card {_digest(text)} -->\n"


def is_unedited(card: str) -> bool:
    """Return whether a card is as negrefine wrote it: of any detector, by any version."""
    mark = _MARK.search(card)
    return mark is not None and _digest(card[: mark.start()]) == mark[1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _front_matter(found: Described, licence: str | None) -> str:
    import yaml

    fields: dict[str, Any] = {"library_name": "negrefine"}
    if licence:
        fields["license"] = licence
    if _HUB_ID.fullmatch(found.encoder):
        fields["base_model"] = found.encoder
    tags = ["out-of-distribution-detection", "zero-shot", "negrefine", found.manifest["method"]]
    fields["tags"] = list(dict.fromkeys(tags))
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=False)}---\n"


def _origin(found: Described) -> str:
    if str(found.manifest["method"]) in FROZEN:
        return "the class names and from the images of a stream, which nobody has labelled,"
    if found.chosen_on_images:
        return "the class names, with constants chosen on images,"
    return "the class names alone, without training images,"


def _use(where: str) -> str:
    return (
        "```bash\n"
        "pip install negrefine\n"
        f"negrefine score {where} images/ --out scores.csv\n"
        "```\n\n"
        "```python\n"
        "import negrefine\n\n"
        f'detector = negrefine.load_detector("{where}")\n'
        'scores = detector.score_samples(["a.jpg"])  # larger = more in-distribution\n'
        "```\n\n"
        "An address on the hub may end in `@` and a commit, whose files never change. Nothing is "
        "run that is in this repository: detectors are JSON and safetensors.\n"
    )


def _classes(names: Sequence[str]) -> str:
    shown = [_short(name) for name in names[:_LISTED]]
    width = min(_IN_A_ROW, len(shown))
    shown += [""] * (-len(shown) % width)
    rows = [shown[i : i + width] for i in range(0, len(shown), width)]
    table = markdown_table([""] * width, rows)
    more = len(names) - _LISTED
    return f"{table}\nAnd {more:,} more, in `{MANIFEST}`.\n" if more > 0 else table


def _made_of(found: Described) -> str:
    manifest, encoder = found.manifest, found.manifest["encoder"]
    options = json_text(encoder["options"], sort_keys=True)
    templates = manifest["prompts"]["class_name"]
    prompts = f"{templates[0]}" + (f" and {len(templates) - 1} more" if templates[1:] else "")
    rows = [
        ("method", found.title + (f" ({found.paper})" if found.paper else "")),
        ("encoder", without_folders(found.encoder)),
        ("its fingerprint", str(encoder["fingerprint"])),
        ("its options", options),
        ("prompts", prompts),
        ("saved by", f"negrefine {manifest.get('negrefine_version')}"),
        ("format", str(manifest["format_version"])),
        (f"checksum of {MANIFEST}", found.checksum),
    ]
    changed = _changed_parameters(manifest)
    if changed:
        rows.insert(1, ("parameters", changed))
    return markdown_table(["", ""], [[markdown_text(key), _short(value)] for key, value in rows])


def _changed_parameters(manifest: Mapping[str, Any]) -> str:
    """Return what is not the default, "" if everything is."""
    from negrefine.detectors.parameters import declared_parameters, encode_parameter

    known = saved_methods().get(str(manifest["method"]))
    defaults = {} if known is None else declared_parameters(known)
    changed = {
        name: value
        for name, value in manifest["parameters"].items()
        # Prompts, judge, lexicon and proposer have places of their own.
        if name not in {"prompts", "judge", "lexicon", "propose"}
        and (name not in defaults or encode_parameter(defaults[name].default) != value)
    }
    return ", ".join(f"{name} = {json_text(value)}" for name, value in sorted(changed.items()))


def _licences(found: Described, licence: str | None) -> list[str]:
    stated = (
        f"Whoever shares this detector gives it the licence `{visible(licence)}`."
        if licence
        else "Whoever shares this detector has not stated a licence for it."
    )
    own = next((each.licence for each in recommended() if each.id == found.encoder), None)
    name = markdown_text(_cut(without_folders(found.encoder)))
    if found.encoder in EMBEDDED:
        encoder = f"The encoder {name} comes with negrefine, whose NOTICE.md lists its sources."
    elif own:
        encoder = f"The encoder {name} is not included; its weights are {own}, says its page."
    else:
        encoder = f"The encoder {name} is not included, and its licence is its own."
    sentences = [stated, encoder]
    sources = []
    if found.has_wordnet_words:
        sources.append(
            "words of WordNet 3.1 (Copyright 2011 by Princeton University, all rights reserved; "
            "its licence is in `WORDNET-LICENSE.txt`)"
        )
    if found.lexicon and not found.lexicon.startswith("wordnet-3.1"):
        sources.append("words of a lexicon of its maker's own")
    others = [each for each in found.proposers if each != WORDNET_PROPOSER]
    if others:
        sources.append(f"names that {markdown_text(_cut(named(others)))} proposed")
    if sources:
        sentences.append(f"The negative labels are {' and '.join(sources)}.")
    sentences.append("The code of negrefine is under the MIT licence.")
    return sentences


def _cut(text: str) -> str:
    text = visible(text)
    return text if len(text) <= _CHARACTERS * 4 else f"{text[: _CHARACTERS * 4]}\u2026"


def _short(text: str) -> str:
    """Return Markdown of one cell; names may be of any length."""
    return markdown_text(_cut(text))
