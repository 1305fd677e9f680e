"""Pictures from a folder to a frozen classifier, and one that is put to both sides."""

import base64
import io
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("PIL", reason="needs the extra [images]")

from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.models import images
from workbench.session import pairing
from workbench.widgets import CalibrationPanel, ComparisonView
from workbench.widgets._answers import answered, pictured
from workbench.widgets.comparison_view import PICTURE_LIMIT

LABELS = ("cat", "dog", "owl", "bee", "fox", "elk", "ape")


def picture(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    values = torch.randint(0, 256, (*size[::-1], 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(values.byte().numpy())


def written(made: Image.Image, form: str = "PNG", **options) -> bytes:
    content = io.BytesIO()
    made.save(content, form, **options)
    return content.getvalue()


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A tiny random ViT with a head of seven classes, saved by transformers with its processor."""
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        id2label=dict(enumerate(LABELS)),
        initializer_range=0.5,
    )
    folder = tmp_path_factory.mktemp("vit")
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Nine pictures of both formats, one of them twice, and a file that is none."""
    made = tmp_path_factory.mktemp("pictures")
    (made / "more").mkdir()
    for i in range(8):
        (made / f"{i}.png").write_bytes(written(picture(i)))
    (made / "again.png").write_bytes(written(picture(0)))
    (made / "more" / "photo.JPG").write_bytes(written(picture(9), "JPEG"))
    (made / "notes.txt").write_text("no picture")
    return made


@pytest.fixture
def seeing(vit, folder, monkeypatch):
    monkeypatch.setattr(pairing, "TIMINGS", 3)
    recipe = wb.Recipe(model=str(vit)).with_calibration(images=str(folder), samples=4)
    made = wb.Session(recipe)
    yield made
    made.close()


def test_a_classifier_of_images_comes_with_its_head_and_processor(vit) -> None:
    loaded = wb.load(vit)
    assert loaded.kind == "image-classifier"
    (batch,) = loaded.picture_batches([picture(1)])
    expected = ViTImageProcessorPil.from_pretrained(vit)(picture(1), return_tensors="pt")
    assert torch.equal(batch["pixel_values"], expected["pixel_values"])
    assert loaded.model(**batch).logits.shape == (1, len(LABELS))
    for arguments in ({}, {"images": "x", "text": "y"}):
        with pytest.raises(WorkbenchError, match=r"looks at pictures.*`images`"):
            loaded.batches("calibration", **arguments)


def test_no_picture_calibrates_and_judges(vit, folder) -> None:
    loaded = wb.load(vit)
    halves = {
        split: torch.cat([b["pixel_values"] for b in loaded.batches(split, images=folder)])
        for split in ("calibration", "evaluation")
    }
    assert [len(half) for half in halves.values()] == [5, 4]  # nine different ones
    both = torch.cat([*halves.values()]).flatten(1)
    assert len(both.unique(dim=0)) == 9
    drawn = [loaded.batches("calibration", images=folder, samples=2, seed=s) for s in (3, 3)]
    assert torch.equal(*(batches[0]["pixel_values"] for batches in drawn))
    with pytest.raises(WorkbenchError, match="0 different pictures"):
        loaded.batches("calibration", images=vit)
    with pytest.raises(WorkbenchError, match="reads text"):
        wb.load("pylm").batches("calibration", images=folder)


def test_from_a_folder_of_pictures_to_a_measured_pair_and_back_from_disk(seeing, tmp_path) -> None:
    view = ComparisonView(seeing)
    job = view.pair().wait(120)
    assert job.state == "done", job.error
    assert {row["key"] for row in view.measured["rows"]} == {"kl", "agreement", "bytes", "disk"}
    assert view.measured["latency"][0]["title"] == "One picture"
    assert view.measured["quality"]["sequences"] == 4
    assert {row["key"] for row in view.rows} <= {"kl", "agreement", "bytes"}

    script = seeing.code().replace('"out"', repr(str(tmp_path / "out")))
    scope: dict = {}
    exec(compile(script, "recipe", "exec"), scope)
    again = wb.load(tmp_path / "out")
    batch = again.picture_batches([picture(7)])[0]
    with torch.no_grad():
        assert torch.equal(again.model(**batch).logits, seeing.model(**batch).logits)
    assert scope["report"].kl == pytest.approx(seeing.compare().kl)


def test_both_sides_see_one_picture(seeing, vit) -> None:
    view, made = ComparisonView(seeing), picture(20, (300, 200))
    content = base64.b64encode(written(made, "JPEG", quality=95)).decode()
    job = view.look("beast.jpg", content, 9).wait(120)
    assert job.state == "done", job.error
    found = view.answers
    seen = Image.open(io.BytesIO(base64.b64decode(content)))
    batch = ViTImageProcessorPil.from_pretrained(vit)(seen, return_tensors="pt")
    for side, model in (("a", ViTForImageClassification.from_pretrained(vit)), ("b", seeing.model)):
        with torch.no_grad():
            shares, classes = model(**batch).logits[0].softmax(-1).topk(5)
        assert [row["label"] for row in found[side]] == [LABELS[i] for i in classes]
        assert [row["probability"] for row in found[side]] == pytest.approx(shares.tolist(), 1e-4)
    assert Image.open(io.BytesIO(view.picture)).size == (160, 107)
    view.swap()
    assert (view.answers, view.picture) == ({}, b"")
    assert view.answer("some text").wait(60).state == "failed"
    assert "reads no text" in view.error


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read as a picture"),
        (b"<svg onload=alert(1)>", "cannot be read as a picture"),
        (written(picture(1))[:300], "cannot be read as a picture"),
        (written(picture(1), "JPEG")[:400], "cannot be read as a picture"),
        (written(picture(1), "GIF"), "whole PNG or JPEG"),
        (written(Image.new("1", (6000, 6000))), "too large a picture"),
        (written(Image.new("1", (20000, 10000))), "too large a picture"),
    ],
    ids=["empty", "markup", "half a png", "half a jpeg", "gif", "36 MP", "a bomb"],
)
def test_what_is_no_picture_is_refused_in_words(content, words) -> None:
    with pytest.raises(WorkbenchError, match=words):
        images.decoded(content, "'it'")


def test_refusals_reach_the_error_strip(seeing, session) -> None:
    view = ComparisonView(seeing)
    for content, size, words in (
        ("", PICTURE_LIMIT + 1, "allowed: 2,500,000"),
        ("§", 1, "arrived damaged"),
    ):
        view._pressed(None, {"call": "look", "arguments": ["x.png", content, size]}, [])
        assert words in view.error
    assert view.look("x.png", b"GIF89a").wait(60).state == "failed"
    assert "'x.png' cannot be read as a picture" in view.error
    blind = SimpleNamespace(kind="causal-lm", name="pylm")
    with pytest.raises(WorkbenchError, match="pylm sees no pictures"):
        pictured(blind, None, None, picture(1))
    with pytest.raises(WorkbenchError, match="reads no text"):
        answered(SimpleNamespace(kind="image-classifier", name="vit"), None, None, "x", "")


def test_a_picture_is_turned_as_the_camera_was_held() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned = images.decoded(written(picture(1), "JPEG", exif=exif), "it")
    assert turned.size == (40, 48)
    assert images.decoded(written(Image.new("LA", (3, 2))), "it").mode == "RGB"


def test_the_panel_names_a_folder_of_pictures(session, folder, monkeypatch) -> None:
    panel = CalibrationPanel(session)
    panel.set_state({"source": "images"})
    panel.set_state({"images": str(folder)})
    assert session.recipe.calibration.source == {"images": str(folder)}
    assert CalibrationPanel(session).source == "images"
    panel.set_state({"source": "bundled"})
    assert session.recipe.calibration.source == {}
    monkeypatch.setenv("WORKBENCH_SERVED", "1")
    visitors = CalibrationPanel(session)
    visitors.set_state({"images": "/etc"})
    assert "a folder of this machine is not taken here" in visitors.error
    assert session.recipe.calibration.source == {}
