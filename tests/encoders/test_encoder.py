"""The CLIP encoder against transformers' own forward pass, and every way a model can be broken."""

from __future__ import annotations

import http.server
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, CLIPModel
from transformers.utils import logging as transformers_logging

from negrefine import load_encoder
from negrefine.encoders import CLIPEncoder
from negrefine.errors import EncoderError, ImageError, InputError


class Reference:
    """A CLIPModel run as its documentation says, one text at a time at full padding."""

    def __init__(self, directory: Path) -> None:
        self.model = CLIPModel.from_pretrained(directory, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self.length = self.model.config.text_config.max_position_embeddings

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text).input_ids

    def encode_ids(self, ids: list[int]) -> np.ndarray:
        padded = ids + [self.tokenizer.eos_token_id] * (self.length - len(ids))
        with torch.inference_mode():
            return self.model.get_text_features(torch.tensor([padded])).pooler_output[0].numpy()

    def encode(self, text: str) -> np.ndarray:
        return self.encode_ids(self.ids(text))

    def fill(self, n_tokens: int) -> str:
        """A text of exactly that many tokens."""
        text = " ".join(["dog"] * (n_tokens - 2))
        assert len(self.ids(text)) == n_tokens
        return text


@pytest.fixture(scope="module")
def builtin_reference(builtin_dir: Path) -> Reference:
    return Reference(builtin_dir)


@pytest.fixture(scope="module", params=["builtin", "tiny"])
def pair(request: pytest.FixtureRequest) -> tuple[CLIPEncoder, Reference]:
    """An encoder and the reference for it."""
    encoder = request.getfixturevalue(f"{request.param}_encoder")
    if request.param == "builtin":
        return encoder, request.getfixturevalue("builtin_reference")
    return encoder, Reference(request.getfixturevalue("golden_dir") / "model")


def copy_model(source: Path, target: Path) -> Path:
    # Not copytree: the permissions of a read-only source would come along.
    target.mkdir(parents=True)
    for file in source.iterdir():
        shutil.copyfile(file, target / file.name)
    return target


def random_texts(n: int) -> list[str]:
    rng = random.Random(3)  # noqa: S311
    alphabet = "abcdefghijklmnopqrstuvwxyz      0123456789'.,-!éß漢🦊"
    texts = ["".join(rng.choices(alphabet, k=rng.randint(1, 24))) for _ in range(n)]
    starts = ["", "a photo of a ", "a close-up photo of the nice ", "the "]
    return [rng.choice(starts) + " ".join(text.split()) for text in texts]


def test_texts_equal_the_full_forward_pass(pair: tuple[CLIPEncoder, Reference]) -> None:
    encoder, reference = pair
    fitting = [t for t in random_texts(150) if len(reference.ids(t)) <= encoder.context_length]
    assert len(fitting) >= 140
    texts = [
        *fitting,
        "dog",
        "",
        "MiXeD Case",
        "naïve café \u2013 漢字 🦊",
        "<|endoftext|> in the middle",
        reference.fill(encoder.context_length - 1),
        reference.fill(encoder.context_length),
    ]
    features = encoder.encode_texts(texts)
    assert features.shape == (len(texts), encoder.dim)
    assert features.dtype == np.float32
    expected = np.stack([reference.encode(text) for text in texts])
    np.testing.assert_allclose(features, expected, atol=1e-5, rtol=1e-5)


def test_many_texts_with_shared_beginnings_keep_their_rows(
    pair: tuple[CLIPEncoder, Reference],
) -> None:
    """Enough equal prefixes for every way of batching; order and duplicates survive it."""
    encoder, reference = pair
    names = [f"{a}{b} thing" for a in "abcdefgh" for b in ("", " red", " big red")]
    texts = [f"a photo of the nice {name}" for name in names] * 2 + names
    texts += [f"a photo of the nice {name}." for name in reversed(names)]
    features = encoder.encode_texts(texts)
    assert (features[: len(names)] == features[len(names) : 2 * len(names)]).all()
    for batch_size in (1, 3, 1000):
        again = encoder.encode_texts(texts, batch_size=batch_size)
        np.testing.assert_allclose(again, features, atol=5e-6)
    for i in (0, 13, 50, 71, 80, len(texts) - 1):
        np.testing.assert_allclose(features[i], reference.encode(texts[i]), atol=1e-5)


def test_text_is_repaired_as_openai_does_it(builtin_encoder: CLIPEncoder) -> None:
    odd = ["caf&eacute; &amp;amp; “bar”", "  tabs\tand\nlines  ", "schÃ¶n", "ﬁre"]
    plain = ['café & "bar"', "tabs and lines", "schön", "fire"]
    assert (builtin_encoder.encode_texts(odd) == builtin_encoder.encode_texts(plain)).all()


def test_no_texts_and_no_images_have_a_width(builtin_encoder: CLIPEncoder) -> None:
    for nothing in (builtin_encoder.encode_texts([]), builtin_encoder.encode_images([])):
        assert nothing.shape == (0, builtin_encoder.dim)
        assert nothing.dtype == np.float32


@pytest.mark.parametrize(
    ("texts", "said"),
    [("dog", "wrap it in"), (["dog", None], "give strings"), (["dog", 3], "give strings")],
)
def test_texts_that_are_none(builtin_encoder: CLIPEncoder, texts: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        builtin_encoder.encode_texts(texts)


def test_text_that_unicode_cannot_hold(builtin_encoder: CLIPEncoder) -> None:
    """Half of a surrogate pair reads as the replacement character, as ftfy has it."""
    features = builtin_encoder.encode_texts(["half a \ud83e fox", "half a \ufffd fox"])
    assert (features[0] == features[1]).all()


def test_batch_sizes_below_one(builtin_encoder: CLIPEncoder, demo_pictures: list[Path]) -> None:
    with pytest.raises(InputError, match="batch_size must be a whole number of at least 1, not 0"):
        builtin_encoder.encode_texts(["dog"], batch_size=0)
    with pytest.raises(InputError, match="batch_size must be a whole number of at least 1, not 0"):
        builtin_encoder.encode_images(demo_pictures, batch_size=0)


def test_openai_context_refuses_long_texts(tiny_encoder: CLIPEncoder) -> None:
    long = "a very " + "long " * 80 + "name"
    with pytest.raises(InputError, match=r"'a very long .*has 85 tokens .*at most 77.*truncate"):
        tiny_encoder.encode_texts(["short", long])


def test_short_context_cuts_with_one_warning(
    builtin_dir: Path, builtin_reference: Reference
) -> None:
    encoder = load_encoder("builtin", device="cpu")
    long = ["one " + "dog " * 40 + "end", "two " + "cat " * 50]
    with pytest.warns(UserWarning, match="at most 32") as caught:
        features = encoder.encode_texts(long)
    assert len(caught) == 1
    # A second warning would be an error here.
    encoder.encode_texts([*long, "three " + "cow " * 60])
    for text, row in zip(long, features, strict=True):
        ids = builtin_reference.ids(text)
        cut = [*ids[:31], ids[-1]]
        np.testing.assert_allclose(row, builtin_reference.encode_ids(cut), atol=1e-5)
    strict = load_encoder("builtin", truncate=False, device="cpu")
    with pytest.raises(InputError, match="tokens"):
        strict.encode_texts(long)


def test_truncate_cuts_openai_context(golden_dir: Path) -> None:
    encoder = load_encoder(golden_dir / "model", truncate=True, device="cpu")
    reference = Reference(golden_dir / "model")
    text = "dog " * 100
    with pytest.warns(UserWarning, match="at most 77"):
        (row,) = encoder.encode_texts([text])
    ids = reference.ids(text)
    np.testing.assert_allclose(row, reference.encode_ids([*ids[:76], ids[-1]]), atol=1e-5)


def test_images_whatever_their_batch(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path]
) -> None:
    features = builtin_encoder.encode_images(demo_pictures)
    assert features.shape == (len(demo_pictures), builtin_encoder.dim)
    assert features.dtype == np.float32
    for batch_size in (1, 5):
        again = builtin_encoder.encode_images(demo_pictures, batch_size=batch_size)
        np.testing.assert_allclose(again, features, atol=1e-6 * np.abs(features).max())
    backwards = builtin_encoder.encode_images(demo_pictures[::-1])
    np.testing.assert_allclose(backwards[::-1], features, atol=1e-6 * np.abs(features).max())


def test_images_equal_the_model_on_the_preprocessed_pixels(
    pair: tuple[CLIPEncoder, Reference], demo_pictures: list[Path]
) -> None:
    encoder, reference = pair
    pictures = [Image.open(path).convert("RGB") for path in demo_pictures[:3]]
    pixels = torch.from_numpy(np.stack([encoder.preprocessing(image) for image in pictures]))
    with torch.inference_mode():
        expected = reference.model.get_image_features(pixels).pooler_output.numpy()
    features = encoder.encode_images(demo_pictures[:3])
    np.testing.assert_allclose(features, expected, atol=1e-5, rtol=1e-5)


def test_one_picture_in_every_form(builtin_encoder: CLIPEncoder, demo_pictures: list[Path]) -> None:
    path = demo_pictures[0]
    image = Image.open(path).convert("RGB")
    forms = [path, str(path), image, np.asarray(image)]
    features = builtin_encoder.encode_images(forms, batch_size=1)
    assert (features == features[0]).all()
    assert (builtin_encoder.encode_images(np.asarray(image)[None]) == features[0]).all()


def test_one_image_is_not_a_list(builtin_encoder: CLIPEncoder, demo_pictures: list[Path]) -> None:
    image = Image.open(demo_pictures[0]).convert("RGB")
    for one in (demo_pictures[0], str(demo_pictures[0]), image, np.asarray(image)):
        with pytest.raises(InputError, match="wrap it in"):
            builtin_encoder.encode_images(one)  # type: ignore[arg-type]


def test_broken_images_raise_or_become_entries(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path], tmp_path: Path
) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture")
    thread = tmp_path / "thread.png"
    Image.new("RGB", (1, 40_000)).save(thread)
    for broken in (text, thread, tmp_path / "missing.png"):
        with pytest.raises(ImageError, match=r"image|file"):
            builtin_encoder.encode_images([demo_pictures[0], broken])
    images = [demo_pictures[0], text, thread, demo_pictures[1]]
    for batch_size in (1, 3, 10):
        batches = list(builtin_encoder.iter_encoded_images(images, batch_size))
        errors = [error for batch in batches for error in batch.errors]
        assert [error is None for error in errors] == [True, False, False, True]
        features = np.concatenate([batch.features for batch in batches])
        expected = builtin_encoder.encode_images([images[0], images[3]])
        np.testing.assert_allclose(features, expected, atol=1e-5)


def test_half_precision_comes_out_as_float32(builtin_encoder: CLIPEncoder) -> None:
    half = load_encoder("builtin", dtype="bfloat16", device="cpu")
    texts = ["dog", "a photo of a cat"]
    features = half.encode_texts(texts)
    assert features.dtype == np.float32
    expected = builtin_encoder.encode_texts(texts)
    assert np.abs(features - expected).max() < 0.1 * np.abs(expected).max()
    assert half.fingerprint == builtin_encoder.fingerprint


# ------------------------------------------------------------------------------- fingerprint


def test_fingerprint_of_a_copy_is_the_same(
    builtin_encoder: CLIPEncoder, builtin_dir: Path, tmp_path: Path
) -> None:
    copy = load_encoder(copy_model(builtin_dir, tmp_path / "copy"))
    assert copy.fingerprint == builtin_encoder.fingerprint
    assert len(copy.fingerprint) == 64
    assert Path(copy.name) == (tmp_path / "copy").resolve()


def other_weights(model: Path) -> None:
    file = model / "model.safetensors"
    weights = load_file(file)
    weights["logit_scale"] = weights["logit_scale"] + 1
    save_file(weights, file, metadata={"format": "pt"})


def edit_json(name: str, **changes: Any) -> Callable[[Path], None]:
    def edit(model: Path) -> None:
        file = model / name
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, **changes}))

    return edit


def other_tokenizer(model: Path) -> None:
    file = model / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["merges"].pop()
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        other_weights,
        other_tokenizer,
        edit_json("preprocessor_config.json", image_mean=[0.5, 0.5, 0.5]),
        edit_json("config.json", logit_scale_init_value=1.0),
        {"resample": "bilinear"},
        {"exif_orientation": False},
        {"background": None},
        {"background": (0, 0, 0)},
    ],
)
def test_fingerprint_changes_with_what_changes_features(
    builtin_encoder: CLIPEncoder, builtin_dir: Path, tmp_path: Path, change: Any
) -> None:
    model = copy_model(builtin_dir, tmp_path / "model")
    options = {}
    if callable(change):
        change(model)
    else:
        options = change
    assert load_encoder(model, **options).fingerprint != builtin_encoder.fingerprint


def test_fingerprint_of_a_model_that_went_away(builtin_dir: Path, tmp_path: Path) -> None:
    encoder = load_encoder(copy_model(builtin_dir, tmp_path / "model"))
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(EncoderError, match="removed after it was loaded"):
        _ = encoder.fingerprint

    encoder = load_encoder(copy_model(builtin_dir, tmp_path / "model"))
    other_weights(tmp_path / "model")
    with pytest.raises(EncoderError, match="changed or removed after it was loaded"):
        _ = encoder.fingerprint


# ---------------------------------------------------------------------------- loading errors


def remove(*names: str) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        for name in names:
            (model / name).unlink()

    return change


def write(name: str, text: str) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        (model / name).write_text(text)

    return change


def cut_weights(model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def lose_tensors(model: Path) -> None:
    file = model / "model.safetensors"
    weights = load_file(file)
    del weights["visual_projection.weight"]
    save_file(weights, file, metadata={"format": "pt"})


def only_pickled(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def other_architecture(model: Path) -> None:
    content = json.loads((model / "config.json").read_text())
    content["text_config"]["hidden_size"] = 96
    (model / "config.json").write_text(json.dumps(content))


PREPROCESSOR = "preprocessor_config.json"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (remove("config.json"), "holds no config.json"),
        (write("config.json", '{"model_type": "cl'), "config.json .* cannot be read as JSON"),
        (write("config.json", "[]"), "must hold a JSON object"),
        (edit_json("config.json", model_type="bert"), "'bert' model, which has no features"),
        (write("config.json", "{}"), "'nameless' model"),
        (cut_weights, "weights .* cannot be loaded .* damaged"),
        (lose_tensors, "lack 1 tensors, 'visual_projection.weight' among them"),
        (only_pickled, "holds no safetensors weights .* never loaded"),
        (other_architecture, "weights .* do not belong together"),
        (remove("tokenizer.json"), "tokenizer .* cannot be loaded .* is needed"),
        (write("tokenizer.json", "{"), "tokenizer .* cannot be loaded"),
        (edit_json("config.json", text_config={"vocab_size": 99}), "do not belong together"),
        (remove(PREPROCESSOR), "holds no preprocessor_config.json"),
        (
            edit_json(PREPROCESSOR, size="large"),
            "preprocessing .* is unusable: size must be .* not 'large'",
        ),
        (
            edit_json(PREPROCESSOR, resample=9),
            "preprocessing .* is unusable: resample must be .* not 9",
        ),
        (edit_json(PREPROCESSOR, crop_size=224), r"unusable: .* \(224, 224\) .* \(48, 48\)"),
        (edit_json(PREPROCESSOR, image_std=[0, 0, 0]), "preprocessing .* is unusable"),
    ],
)
def test_broken_models_are_refused_in_one_sentence(
    builtin_dir: Path, tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    model = copy_model(builtin_dir, tmp_path / "model")
    damage(model)
    with pytest.raises(EncoderError, match=said) as caught:
        load_encoder(model)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert str(model) in message


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("./nowhere", {}, "is not a directory: give the directory"),
        ("/a/b/c/nowhere", {}, "is not a directory"),
        (__file__, {}, "is not a directory"),
        ("not a name!", {}, "neither a directory nor a hub id"),
        ("builtin", {"dtype": "float8"}, "dtype must be 'auto' or one of"),
        ("builtin", {"device": "cuda:99"}, "device 'cuda:99' cannot be used here"),
        ("builtin", {"device": "toaster"}, "device 'toaster' cannot be used here"),
        ("builtin", {"resample": "magic"}, "preprocessing .* is unusable"),
    ],
)
def test_bad_arguments(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(EncoderError, match=said) as caught:
        load_encoder(name, **options)
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------------------- hub

LOAD = """
import sys
from negrefine import load_encoder
from negrefine.errors import EncoderError
try:
    encoder = load_encoder(sys.argv[1], device="cpu")
except EncoderError as error:
    sys.exit(f"refused: {error}")
print(encoder.name, encoder.fingerprint)
"""


def load_in_process(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HTTP"))}
    return subprocess.run(
        [sys.executable, "-c", LOAD, name],
        env={**own, **environment, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_hub_id_from_a_cache_without_network(
    builtin_encoder: CLIPEncoder, builtin_dir: Path, tmp_path: Path
) -> None:
    cached = tmp_path / "hub" / "models--org--name"
    copy_model(builtin_dir, cached / "snapshots" / ("a" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    done = load_in_process("org/name", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert done.stdout.split() == ["org/name", builtin_encoder.fingerprint], done.stderr
    assert done.stderr == ""

    weights = cached / "snapshots" / ("a" * 40) / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    done = load_in_process("org/name", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert "holds no safetensors weights" in done.stderr


def test_hub_id_that_is_nowhere(tmp_path: Path) -> None:
    done = load_in_process("org/other", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert done.stderr.startswith("refused: ")
    for word in ("'org/other'", "local CLIPModel directory", "HF_HOME", "'builtin-photo'"):
        assert word in done.stderr
    assert done.stderr.count("\n") == 1


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's interface that downloading a public model needs."""

    revision = "b" * 40
    files: dict[str, bytes]
    requested: list[str]

    def log_message(self, *args: object) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def do_GET(self) -> None:
        self._answer(send_body=True)

    def _answer(self, *, send_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.requested.append(f"{self.command} {path}")
        if path.startswith("/api/models/org/served/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": sha256(data).hexdigest()}
                for name, data in self.files.items()
            ]
            self._send(json.dumps(tree).encode(), {}, send_body=send_body)
        elif path.startswith("/api/models/org/served"):
            siblings = [{"rfilename": name} for name in self.files]
            info = {"id": "org/served", "sha": self.revision, "siblings": siblings}
            self._send(json.dumps(info).encode(), {}, send_body=send_body)
        elif path.startswith("/org/served/resolve/") and path.rpartition("/")[2] in self.files:
            data = self.files[path.rpartition("/")[2]]
            tag = f'"{sha256(data).hexdigest()}"'
            headers = {"ETag": tag, "X-Repo-Commit": self.revision}
            self._send(data, headers, send_body=send_body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, data: bytes, headers: dict[str, str], *, send_body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if send_body:
            self.wfile.write(data)


@pytest.fixture
def hub(builtin_dir: Path) -> Iterator[tuple[str, list[str]]]:
    files = {file.name: file.read_bytes() for file in builtin_dir.iterdir()}
    # Never wanted, so never downloaded.
    files["pytorch_model.bin"] = b"x" * 1000
    requested: list[str] = []
    handler = type("BuiltinHub", (Hub,), {"files": files, "requested": requested})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", requested
    server.shutdown()
    thread.join()
    server.server_close()


def test_hub_id_is_downloaded(
    builtin_encoder: CLIPEncoder, hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    endpoint, requested = hub
    environment = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    done = load_in_process("org/served", **environment)
    assert done.stdout.split() == ["org/served", builtin_encoder.fingerprint], done.stderr
    assert any(line.endswith("model.safetensors") for line in requested)
    assert not any("pytorch_model.bin" in line for line in requested)

    done = load_in_process("org/missing", **environment)
    assert "has no public model 'org/missing'" in done.stderr

    # What was downloaded once is there when the hub is not.
    done = load_in_process("org/served", **{**environment, "HF_ENDPOINT": "http://127.0.0.1:9"})
    assert done.stdout.split() == ["org/served", builtin_encoder.fingerprint], done.stderr


# ------------------------------------------------------------------------------ global state


def state_of_the_process() -> list[Any]:
    return [
        torch.get_rng_state().tolist(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        str(np.random.get_state()),  # noqa: NPY002 - the global state is what is looked at
        random.getstate(),
        transformers_logging.get_verbosity(),
        transformers_logging.is_progress_bar_enabled(),
        Image.MAX_IMAGE_PIXELS,
        ImageFile.LOAD_TRUNCATED_IMAGES,
        list(warnings.filters),
        dict(os.environ),
        Path.cwd(),
    ]


def test_global_state_stays_untouched(demo_pictures: list[Path], tmp_path: Path) -> None:
    random.seed(5)
    before = state_of_the_process()
    encoder = load_encoder("builtin", device="cpu")
    with pytest.raises(EncoderError):
        load_encoder(tmp_path)
    encoder.encode_images(demo_pictures[:3])
    encoder.encode_texts(["dog", "cat"])
    _ = encoder.fingerprint
    assert state_of_the_process() == before


_IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(f"negrefine.{name}")
from negrefine.encoders import Encoder, ImageSource, find_images, read_image
print(*{"torch", "transformers", "huggingface_hub", "pyarrow"} & set(sys.modules))
"""


def test_what_an_encoder_of_ones_own_needs_imports_no_model_library() -> None:
    light = ["encoders.base", "encoders.batches", "encoders.embedding_cache"]
    light += ["connections", "pretrained.hub", "pretrained.loading"]
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT, *light], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_the_package_names_everything_it_offers() -> None:
    import negrefine.encoders as package

    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = package.Nothing
