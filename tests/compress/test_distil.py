"""Training from a teacher: the losses against their definitions, and runs that are interrupted."""

import sys

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, set_seed

import workbench as wb
from workbench import WorkbenchError
from workbench.compress import Distillation, Examples, Learned, Training, distil, of_layers
from workbench.models.loaded import LoadedModel
from workbench.ops.threads import torch_threads
from workbench.progress import Cancelled
from workbench.train.distillation import soft_divergence

WORDS = ["good", "fine", "lovely", "great", "bad", "awful", "dull", "poor"]


@pytest.fixture(scope="session")
def tokenizer():
    return AutoTokenizer.from_pretrained(wb.bundled["minilm"].folder())


def classifier(tokenizer, seed=0, **values) -> LoadedModel:
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 32,
        "num_labels": 2,
    }
    set_seed(seed)
    model = BertForSequenceClassification(
        BertConfig(vocab_size=len(tokenizer), **(shape | values))
    ).eval()
    return LoadedModel(f"tiny {seed}", model, tokenizer, "classifier", "", None)


def texts(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        length = int(torch.randint(1, 9, (1,), generator=generator))
        found.append([WORDS[i] for i in torch.randint(0, 8, (length,), generator=generator)])
    labels = [int(sum(WORDS.index(w) < 4 for w in words) * 2 >= len(words)) for words in found]
    return [" ".join(words) for words in found], labels


@pytest.fixture(scope="session")
def data(tokenizer):
    return Examples(tokenizer, *texts(96)), Examples(tokenizer, *texts(32, seed=1))


FAST = Training(epochs=4, batch_size=16, learning_rate=3e-3, judgements=4)
ALL = Distillation(labels=0.5, logits=1.0, hidden=1.0, attention=1.0)


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def agree(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_the_soft_loss_is_hintons() -> None:
    """At T = 1 the cross entropy less the teacher's entropy; its gradient as equation 2 says."""
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3)
    shares = teacher.softmax(-1)
    entropy = -(shares * shares.log()).sum(-1).mean()
    expected = F.cross_entropy(student, shares) - entropy
    torch.testing.assert_close(soft_divergence(student, teacher, 1.0, None), expected)
    temperature = 4.0
    soft_divergence(student, teacher, temperature, None).backward()
    softened = (student / temperature).softmax(-1) - (teacher / temperature).softmax(-1)
    torch.testing.assert_close(student.grad, temperature * softened / 5)  # T^2 over T, and the mean


def test_layers_are_mapped() -> None:
    assert Distillation(layers="even").layer_map(2, 6) == {0: 2, 1: 5}
    assert Distillation(layers="last").layer_map(2, 6) == {1: 5}
    assert Distillation(layers={0: 1}).layer_map(2, 6) == {0: 1}
    with pytest.raises(WorkbenchError, match="layer 2 of the student"):
        Distillation(layers={2: 1}).layer_map(2, 6)
    with pytest.raises(ValueError, match="no loss counts"):
        Distillation(logits=0)


@pytest.mark.parametrize("shape", [{}, {"hidden_size": 16, "num_attention_heads": 2}])
def test_a_student_learns_all_that_a_teacher_shows(tokenizer, data, tmp_path, shape) -> None:
    """Other widths and heads go through projections, of which nothing is left behind."""
    teacher = classifier(tokenizer, seed=1)
    before = state(teacher.model)
    student = classifier(tokenizer, seed=2, num_hidden_layers=2, **shape)
    names = set(student.model.state_dict())
    learned = distil(
        student, *data, tmp_path / "out", teacher=teacher, distillation=ALL, training=FAST
    )
    losses = [*learned.losses.values()]
    assert len(losses) == 24
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    assert learned.metric == "accuracy"
    assert learned.judged[learned.kept] == max(learned.judged.values())
    assert agree(before, state(teacher.model))
    assert teacher.model.config._attn_implementation == "sdpa"  # as it was
    assert set(student.model.state_dict()) == names
    assert all(p.grad is None for p in student.model.parameters())
    back = wb.load(tmp_path / "out")
    assert agree(state(back.model), state(student.model))
    assert Learned.load(tmp_path / "out") == learned
    assert f">\n{learned.best:.4g}</text>" in learned._repr_html_()
    # Asked again, with other threads, the run is read and not repeated; another one is refused.
    again = classifier(tokenizer, seed=2, num_hidden_layers=2, **shape)
    with torch_threads(torch.get_num_threads() + 1):
        assert learned == distil(
            again, *data, tmp_path / "out", teacher=teacher, distillation=ALL, training=FAST
        )
    assert agree(state(again.model), state(student.model))
    with pytest.raises(WorkbenchError, match="another model, data or settings"):
        distil(student, *data, tmp_path / "out", teacher=teacher, training=FAST)


def test_the_best_by_the_held_out_texts_is_kept(tokenizer, data, tmp_path, monkeypatch) -> None:
    student, judged, seen = classifier(tokenizer), [0.5, 0.8, 0.7, 0.6], []

    def accuracy(found) -> dict[str, float]:
        seen.append(state(student.model))
        return {"accuracy": judged[len(seen) - 1]}

    monkeypatch.setattr(sys.modules["workbench.compress.distil"], "_accuracy", accuracy)
    learned = distil(student, *data, tmp_path / "out", training=FAST)
    assert (learned.kept, learned.best) == (12, 0.8)
    assert [agree(state(student.model), one) for one in seen] == [False, True, False, False]


def test_without_labels_and_for_language_models(tokenizer, tmp_path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    teacher = LoadedModel("lm", LlamaForCausalLM(config).eval(), tokenizer, "causal-lm", "", None)
    student = of_layers(teacher, [1])
    assert student.model.config.num_hidden_layers == 1
    assert student.model.model.layers[0].self_attn.layer_idx == 0
    assert agree(state(student.model.model.layers[0]), state(teacher.model.model.layers[1]))
    data = Examples(tokenizer, texts(48)[0]), Examples(tokenizer, texts(16, seed=1)[0])
    how = Distillation(labels=0.1, hidden=1.0, attention=1.0, layers="last")
    learned = distil(
        student, *data, tmp_path / "lm", teacher=teacher, distillation=how, training=FAST
    )
    assert learned.metric == "loss"
    assert learned.judged[learned.kept] == min(learned.judged.values())
    assert learned.losses[12] < learned.losses[1]


def test_an_encoder_learns_hidden_states_alone(tokenizer, tmp_path) -> None:
    """Task-agnostic: no head, no labels."""
    teacher = classifier(tokenizer, seed=1)
    teacher.model, teacher.kind = teacher.model.bert, "encoder"
    student = of_layers(teacher, [0, 1])
    data = Examples(tokenizer, texts(48)[0]), Examples(tokenizer, texts(16, seed=1)[0])
    how = Distillation(logits=0, hidden=1.0)
    learned = distil(
        student, *data, tmp_path / "out", teacher=teacher, distillation=how, training=FAST
    )
    assert learned.judged[learned.kept] == min(learned.judged.values()) < learned.losses[1]


class Stops:
    """A reporter that cancels after some steps."""

    def __init__(self, after: int) -> None:
        self.left = after

    def update(self, what, done, total) -> None:
        pass

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Cancelled


def test_a_cancelled_run_goes_on_to_the_same_end(tokenizer, data, tmp_path) -> None:
    whole = classifier(tokenizer)
    learned = distil(whole, *data, tmp_path / "whole", training=FAST)
    for after in (5, 4):
        part = classifier(tokenizer)
        with wb.reporting(Stops(after)), pytest.raises(Cancelled):
            distil(part, *data, tmp_path / "part", training=FAST)
        assert not (tmp_path / "part").exists()
    half = tmp_path / "part.part" / "checkpoint-23"  # as a kill while one is written leaves it
    half.mkdir()
    (half / "trainer_state.json").write_text('{"global_step": 2')
    part = classifier(tokenizer)
    resumed = distil(part, *data, tmp_path / "part", training=FAST)
    assert agree(state(part.model), state(whole.model))
    assert resumed.losses == learned.losses
    assert (resumed.judged, resumed.kept) == (learned.judged, learned.kept)
    assert not (tmp_path / "part.part").exists()


def test_teachers_and_data_that_do_not_fit_are_refused(tokenizer, data, tmp_path) -> None:
    student = classifier(tokenizer)
    with pytest.raises(WorkbenchError, match="gives 2 classes or tokens and the teacher 3"):
        distil(student, *data, tmp_path / "a", teacher=classifier(tokenizer, num_labels=3))
    names = [{0: "bad", 1: "good"}, {0: "good", 1: "bad"}]
    one, other = (classifier(tokenizer, id2label=each) for each in names)
    with pytest.raises(WorkbenchError, match="classes bad, good, and its teacher tiny 0 good, bad"):
        distil(one, *data, tmp_path / "a", teacher=other)
    other = classifier(tokenizer)
    other.tokenizer = AutoTokenizer.from_pretrained(wb.bundled["pylm"].folder())
    with pytest.raises(WorkbenchError, match="different tokenizers"):
        distil(student, *data, tmp_path / "a", teacher=other)
    wild = Training(learning_rate=1e30, warmup=0, batch_size=16)
    with pytest.raises(WorkbenchError, match="the loss became nan after"):
        distil(classifier(tokenizer), *data, tmp_path / "c", training=wild)
    with pytest.raises(WorkbenchError, match="no parameter is named 'nothing"):
        distil(student, *data, tmp_path / "b", training=Training(frozen=("nothing*",)))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(WorkbenchError, match="holds something else"):
        distil(student, *data, tmp_path / "mine")
    with pytest.raises(WorkbenchError, match="no texts"):
        Examples(tokenizer, [])
    with pytest.raises(WorkbenchError, match="2 texts have 1 labels"):
        Examples(tokenizer, ["a", "b"], [1])
    with pytest.raises(WorkbenchError, match="layers \\[2, 1\\]"):
        of_layers(student, [2, 1])
    with pytest.raises(WorkbenchError, match="it has 0 to 2"):
        of_layers(student, [3])


def test_a_classifier_starts_from_its_encoder(tokenizer) -> None:
    from workbench.compress import classifier as on

    encoder = classifier(tokenizer, seed=5)
    encoder.model, encoder.kind = encoder.model.bert, "encoder"
    made = on(encoder, ["dull", "bright"], seed=1)
    assert made.model.config.id2label == {0: "dull", 1: "bright"}
    assert agree(state(made.model.bert), state(encoder.model))
    assert agree(state(made.model), state(on(encoder, ["dull", "bright"], seed=1).model))
    with pytest.raises(WorkbenchError, match="1 classes"):
        on(encoder, ["dull"])
