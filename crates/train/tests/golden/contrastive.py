"""sentence-transformers' `MultipleNegativesRankingLoss` on a tiny BERT; `contrastive/golden.safetensors`.

Three queries of 5, 3 and 7 tokens, three texts of 9, 4 and 6, and three hard negatives of 8, 11 and 2; the tokens stand
one after another in that order. `in_batch.*` has the loss and gradients without the hard negatives, `hard.*` with them,
`cls.*` with them and the first token's state for the mean.
"""

from pathlib import Path

import safetensors.torch
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_transformers.models import Pooling
from transformers import BertConfig, BertModel

from encoder import randomize

QUERIES, TEXTS, NEGATIVES = (5, 3, 7), (9, 4, 6), (8, 11, 2)
VOCAB, WIDTH, SCALE = 31, 16, 20.0


class Bert(torch.nn.Module):
    """The hidden states of a BERT under the name that poolings look for."""

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, features: dict) -> dict:
        """One state a token."""
        hidden = self.bert(features["input_ids"], attention_mask=features["attention_mask"]).last_hidden_state
        return features | {"token_embeddings": hidden}


def build() -> BertModel:
    """One block with random weights."""
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )
    return randomize(BertModel(config, add_pooling_layer=False), 8642)


def padded(sequences: list[torch.Tensor]) -> dict:
    """Sequences as one batch with its mask."""
    ids = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}


def write(folder: Path) -> None:
    """The model folder and its numbers."""
    bert = build()
    bert.save_pretrained(folder)
    generator = torch.Generator().manual_seed(9753)
    lengths = QUERIES + TEXTS + NEGATIVES
    # 0 is the padding, whose embedding gets no gradient.
    sequences = [torch.randint(1, VOCAB, (length,), generator=generator) for length in lengths]
    sides = [padded(sequences[at : at + 3]) for at in (0, 3, 6)]
    values = {"input_ids": torch.cat(sequences).int()}
    for name, mode, used in [("in_batch", "mean", 2), ("hard", "mean", 3), ("cls", "cls", 3)]:
        model = SentenceTransformer(modules=[Bert(bert), Pooling(WIDTH, pooling_mode=mode)], device="cpu")
        bert.zero_grad()
        loss = MultipleNegativesRankingLoss(model, scale=SCALE)([dict(side) for side in sides[:used]], None)
        loss.backward()
        values[f"{name}.loss"] = loss.reshape(1)
        values |= {f"{name}.grad.{n}": p.grad.clone() for n, p in bert.named_parameters()}
    safetensors.torch.save_file({key: value.detach().contiguous() for key, value in values.items()}, folder / "golden.safetensors")
