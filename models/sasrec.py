"""SASRec: a causal transformer over what a user did last; the next item is what fits its state.

    x_t = sqrt(d) m_{s_t} + p_t                                       (section III-A)
    x = x + drop(attention(norm(x))), x = x + drop(ffn(norm(x)))      (III-B and III-C, each block)
    score(u, i) = norm(x_last) . m_i                                  (III-D, shared item embedding)

W.-C. Kang, J. McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018. d, n, b and the
dropout rate are the paper's; sqrt(d) is that of the authors' code. With norm = "pre" blocks are
the paper's; "post" normalises after the residual instead, as A. Vaswani et al., "Attention Is All
You Need", NIPS 2017. Positions count from the last step backwards, which is what the paper's
padding on the left amounts to; "from_start" counts forwards, so that a state does not even depend
on how much came later. Pads stand at the end, where a causal mask hides them from all real steps.

Losses, each a mean over all steps of all sequences:

    bce      -log sigma(s_pos) - log(1 - sigma(s_neg)), one negative a step that the user never
             had: the paper's (section III-E)
    sampled  log(1 + sum_j exp(s_j - s_pos) I / m) over m items drawn uniformly for the whole
             batch, the target left out: the full softmax with its sum estimated without bias
             (Y. Bengio, J.-S. Senecal, "Adaptive Importance Sampling to Accelerate Training of a
             Neural Probabilistic Language Model", IEEE TNN 2008; the logQ correction log(I / m))
    full     the softmax over all items

A. Klenitskiy, A. Vasilev, "Turning Dross Into Gold Loss: is BERT4Rec really better than SASRec?",
RecSys 2023, is why "sampled" is the default: it finds more than "bce" and needs fewer epochs.

Only positives are read, each behaviour alike, the same item several times in a row once. Dropout
on the attention weights, which the paper has, would need the whole matrix of them, and is left
out: the fused kernel never forms it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    dropout,
    embedding,
    logsigmoid,
    scaled_dot_product_attention,
    softplus,
)
from torch.utils.checkpoint import checkpoint

from models.contract import (
    Config,
    FloatArray,
    Loss,
    Past,
    SequenceConfig,
    SequenceModel,
    Steps,
    require,
    to_array,
)

MOST_LOGITS = 1 << 24  # scores at a time under the full softmax: 64 MiB

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]  # of q, k, v [B, heads, T, d / heads]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each step to itself and those before it; [B, heads, T, d / heads]."""
    return scaled_dot_product_attention(q, k, v, is_causal=True)


@dataclass(frozen=True, kw_only=True)
class SASRecConfig(SequenceConfig):
    """SASRec's knobs, with the paper's symbols."""

    blocks: int = 2  # b
    heads: int = 1
    dropout: float = 0.2  # rate, in 256ths, on embeddings and on what each sublayer adds
    norm: Literal["pre", "post"] = "pre"
    positions: Literal["from_end", "from_start"] = "from_end"
    loss: Literal["bce", "sampled", "full"] = "sampled"
    n_negatives: int = 512  # m, items a batch draws under "sampled"
    init_scale: float = 0.02  # standard deviation of the first item embeddings

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.blocks >= 1, "blocks must be at least 1")
        require(self.heads >= 1, "heads must be at least 1")
        require(self.width % self.heads == 0, "width must be a multiple of heads")
        require(0 <= self.dropout <= 0.99, "dropout must be from 0 to 0.99")
        require(self.norm in ("pre", "post"), 'norm must be "pre" or "post"')
        require(
            self.positions in ("from_end", "from_start"),
            'positions must be "from_end" or "from_start"',
        )
        require(self.loss in ("bce", "sampled", "full"), 'loss must be "bce", "sampled" or "full"')
        require(self.n_negatives >= 1, "n_negatives must be at least 1")
        require(self.init_scale > 0, "init_scale must be positive")

    @property
    def wants_negatives(self) -> bool:
        """Only "bce" does; "sampled" draws its own."""
        return self.loss == "bce"


class SASRec(SequenceModel):
    """Item embedding m, positions p, and b blocks."""

    config_type: ClassVar[type[Config]] = SASRecConfig
    reads: ClassVar[tuple[str, ...]] = ("train.examples", "features.user_history_daily")
    needs_propensity: ClassVar[bool] = False
    behaviours: ClassVar[str] = "positive steps in order of time, all kinds alike"
    serves_cold_users: ClassVar[bool] = False
    serves_cold_items: ClassVar[bool] = False
    multiplies: ClassVar[bool] = True
    row_kinds: ClassVar[Mapping[str, Literal["users", "items", "nodes"]]] = {"m": "items"}
    paper: ClassVar[str] = "Kang, McAuley, ICDM 2018 (loss: Klenitskiy, Vasilev, RecSys 2023)"
    assumes: ClassVar[str] = (
        "None that would make it causal: what came next is partly what was shown next."
    )

    def __init__(self, config: Config, n_users: int, n_items: int) -> None:
        if not isinstance(config, SASRecConfig):
            raise TypeError(f"SASRec needs a SASRecConfig, not {type(config).__name__}")
        super().__init__(config, n_users, n_items)
        self.config = config
        d, scale = config.width, config.init_scale
        self.m = nn.Parameter(torch.randn(n_items, d) * scale)  # [n_items, d]
        self.p = nn.Parameter(torch.randn(config.length, d) * scale * math.sqrt(d))  # [n, d]
        self.dropout = _Dropout(config.dropout)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(d) if config.norm == "pre" else nn.Identity()

    def forward(self, past: Past) -> Tensor:
        """The state after each step, [B, T, d]; what it says of pads means nothing."""
        x = self.embedded(past)  # [B, T, d]
        return self.encoded(x, self.attention(x, past))

    def attention(self, x: Tensor, past: Past) -> Attention:
        """How the steps of these sequences, embedded as x [B, T, d], look at each other."""
        return attend

    def embedded(self, past: Past) -> Tensor:
        """Items and their positions, [B, T, d]."""
        x = embedding(past.items, self.m) * math.sqrt(self.config.width)  # [B, T, d]
        dropped: Tensor = self.dropout(x + self._position(past))  # [B, T, d]
        return dropped

    def encoded(self, x: Tensor, attention: Attention) -> Tensor:
        """What the blocks make of it, [B, T, d]."""
        for block in self.blocks:
            x = block(x, attention)  # [B, T, d]
        state: Tensor = self.norm(x)  # [B, T, d]
        return state

    def _position(self, past: Past) -> Tensor:
        step = torch.arange(past.items.shape[1], device=past.items.device)  # [T]
        if self.config.positions == "from_start":
            return self.p[step]  # [T, d]
        # clamped at pads, where it does not matter
        return embedding((past.sizes[:, None] - 1 - step).clamp(min=0), self.p)  # [B, T, d]

    def loss(self, batch: Steps) -> Loss:
        """Loss of N steps; needs batch.negatives when the loss is "bce"."""
        return self.loss_of(self(batch.past), batch)

    def loss_of(self, states: Tensor, batch: Steps) -> Loss:
        """The same, of states [B, T, d] that were made of it."""
        states = states.flatten(0, 1).index_select(0, batch.places)  # [N, d]
        if self.config.loss == "full":
            return _named("full", self._full(states, batch.targets))
        if self.config.loss == "sampled":
            return _named("sampled", self._sampled(states, batch.targets))
        if batch.negatives is None:
            raise ValueError('loss "bce" needs a negative for each step')
        return self._bce(states, batch.targets, batch.negatives)

    def _bce(self, states: Tensor, targets: Tensor, negatives: Tensor) -> Loss:
        pairs = embedding(torch.stack([targets, negatives]), self.m)  # [2, N, d]
        s_pos, s_neg = (pairs * states).sum(2)  # [N] each
        positive, negative = -logsigmoid(s_pos).mean(), -logsigmoid(-s_neg).mean()  # [] each
        return Loss(positive + negative, {"positive": positive, "negative": negative})

    def _sampled(self, states: Tensor, targets: Tensor) -> Tensor:
        m = self.config.n_negatives
        drawn = torch.randint(self.n_items, (m,), device=states.device)  # [m]
        s_pos = (embedding(targets, self.m) * states).sum(1)  # [N]
        s = states @ embedding(drawn, self.m).T  # [N, m]
        s = s.masked_fill(drawn == targets[:, None], -math.inf)  # [N, m]
        rest = s.logsumexp(1) + math.log(self.n_items / m)  # [N]
        return softplus(rest - s_pos).mean()  # []

    def _full(self, states: Tensor, targets: Tensor) -> Tensor:
        rows = max(MOST_LOGITS // self.n_items, 1)
        if len(states) <= rows:
            return self._cross_entropy(states, targets) / len(states)  # []
        # scores of a block are made again on the way back: all of them at once may not fit
        blocks = zip(torch.split(states, rows), torch.split(targets, rows), strict=True)
        sums = [checkpoint(self._cross_entropy, *block, use_reentrant=False) for block in blocks]
        return torch.stack(sums).sum() / len(states)  # []

    def _cross_entropy(self, states: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(states @ self.m.T, targets, reduction="sum")  # []

    def last_states(self, past: Past) -> Tensor:
        """[B, d]."""
        rows = torch.arange(len(past.sizes), device=past.sizes.device)  # [B]
        state: Tensor = self(past)[rows, past.sizes - 1]  # [B, d]
        return state

    def item_vectors(self) -> FloatArray:
        """[n_items, d]: m."""
        return to_array(self.m)


class _Block(nn.Module):
    """Self-attention over the steps so far, then two layers at each step; both are added on."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        d = config.width
        self.heads, self.is_pre = config.heads, config.norm == "pre"
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.ffn = nn.Sequential(
            nn.Linear(d, d), nn.ReLU(), _Dropout(config.dropout), nn.Linear(d, d)
        )
        self.norm_a, self.norm_b = nn.LayerNorm(d), nn.LayerNorm(d)
        self.dropout = _Dropout(config.dropout)

    def forward(self, x: Tensor, attention: Attention) -> Tensor:
        """[B, T, d] to [B, T, d]."""
        if self.is_pre:
            x = x + self.dropout(self._mixed(self.norm_a(x), attention))  # [B, T, d]
            added: Tensor = self.dropout(self.ffn(self.norm_b(x)))  # [B, T, d]
            return x + added
        x = self.norm_a(x + self.dropout(self._mixed(x, attention)))  # [B, T, d]
        normed: Tensor = self.norm_b(x + self.dropout(self.ffn(x)))  # [B, T, d]
        return normed

    def _mixed(self, x: Tensor, attention: Attention) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = attention(q, k, v)  # [B, heads, T, d / heads]
        added: Tensor = self.out(mixed.transpose(1, 2).reshape(b, t, d))  # [B, T, d]
        return added


class _Dropout(nn.Module):
    """Dropout whose coin is a random byte: on a CPU a fifth of a step goes into torch's own."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.n_kept = round((1 - rate) * 256)  # of 256

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; in training some are 0 and the others larger, so that means stay."""
        if not self.training or self.n_kept == 256:
            return x
        if x.device.type != "cpu":
            return dropout(x, 1 - self.n_kept / 256)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64)
        coins = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()].view(x.shape)
        return x * ((coins < self.n_kept).to(x.dtype) * (256 / self.n_kept))


def _named(name: str, loss: Tensor) -> Loss:
    return Loss(loss, {name: loss})
