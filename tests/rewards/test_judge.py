import pytest
import torch

from rewards.classifier import MoAClassifier
from rewards.judge import JudgeClassifier, JudgeSegmenter
from rewards.segmentation.embedded import EmbeddedSegmenter


def test_features_see_the_mean_and_the_maximum_of_each_map():
    """A bright spot on dark maps moves the features more than its share of the mean would."""
    judge = JudgeClassifier(("a", "b")).eval()
    flat = torch.zeros(1, 128, 3, 3)
    spot, spread = flat.clone(), torch.full_like(flat, 1 / 9)
    spot[:, :, 1, 1] = 1  # the mean of `spread`, another maximum
    with torch.no_grad():
        judge.mix[0].weight.zero_()
        judge.mix[0].weight[0, 0] = judge.mix[0].weight[1, 128] = 1
        judge.mix[0].bias.zero_()
    pooled = torch.stack([judge.pool(maps)[0, :2] for maps in (spot, spread)])
    expected = torch.nn.functional.gelu(torch.tensor([[1 / 9, 1.0], [1 / 9, 1 / 9]]))
    torch.testing.assert_close(pooled, expected)


@pytest.mark.parametrize(
    ("judge", "rewarding"), [(JudgeClassifier, MoAClassifier), (JudgeSegmenter, EmbeddedSegmenter)]
)
def test_judges_share_no_weights_with_the_models_of_the_rewards(judge, rewarding):
    own, others = [[p for p in model.from_pretrained().parameters() if p.ndim >= 2] for model in (judge, rewarding)]
    assert own and not any(torch.equal(p, other) for p in own for other in others)
    shapes = [{tuple(p.shape) for p in weights if p.ndim == 4} for weights in (own, others)]
    assert shapes[0] != shapes[1]
    assert judge.shipped != rewarding.shipped


def test_weights_of_a_judge_are_not_loaded_as_the_classifier_of_the_rewards():
    for model, other in ((JudgeClassifier, MoAClassifier), (MoAClassifier, JudgeClassifier)):
        with pytest.raises(ValueError, match=f"holds a {other.__name__}, need a {model.__name__}"):
            model.from_pretrained(other.shipped)
