"""CausalRec: SASRec whose attention is boosted where a learnt graph says that a step caused.

    x_t = sqrt(d) m_{s_t} + p_t                                  (embedding, as SASRec)
    v = norm(x) W_v, S = (norm(x) W_q) (norm(x) W_k)' / sqrt(d)  (discovery; norm before mixing)
    S += u log(strength_j) + b_{t-j} + c score(s_j, s_t)         (what is known of causes)
    A = exp(S) / (1 + sum_{j < t} exp(S))                        (strictly before, with a null sink)
    W = I - (I + A)^-1                                           (direct effects; z = (I + A) v)
    R = |W| by the largest of its row, R[t, t] = 1               (relation)
    attention = softmax(q k' / sqrt(d) + log(1 + alpha R))       (booster, in every block)

"CausalRec: A CausalBoost Attention Model for Sequential Recommendation", arXiv:2510.21333: a linear
structural causal model of the steps of one sequence read off an attention (section 4.2), attention
multiplied by 1 + alpha R (section 4.3), an L1 penalty on W and one for cycles (section 4.4). The
paper is silent on how R is made of W, on the form of the attention that is inverted and on whether
the boost comes before or after the softmax; these are reconstructed here, so that the theory holds:

- Attention that includes the step itself is nearly singular; I + A never is. Equal variances can
  only hold for the noise, so the norm stands before the values are mixed, not after.
- log(1 + alpha R) added to the logits is attention times 1 + alpha R with rows that sum to 1. It
  cannot let a step look ahead nor turn a boost into its contrary, as multiplied logits do.
- The blocks read x, not z: with alpha = 0 this is SASRec, bit by bit, and what alpha adds is the
  boost's alone. The graph learns from the loss through R, and from what z leaves unexplained.
- The loss alone teaches the graph little more than that near steps matter. What is known of causes
  beside it is given: what was bought causes more than what was seen (u), and a cause comes before
  its effect more often than after (c; `models.direction`), which a session's theme does not.

Where W points back in time by its form it has no cycles and the penalty is 0 with gradient 0: it
adds nothing, and is watched instead as a test of the masks. It acts for effects = "free" and
"cluster" alone. Time order, not the penalty, is what makes the graph known: without it the graph
is not to be found from steps whose variances are equal.

effects, how W is made:

    direct    as above                               attn      A itself, to first order the same
    cov_chol  of the Cholesky factor of Cov(z)       gram      the correlation of z: paths too
    free      sigma(S) between all pairs, boosted by those before; without cycles by penalty alone
    cluster   q' G q, q the soft clusters of the steps, G one graph of clusters

No form of this that was tried makes the lists of Amazon Beauty better by more than seeds differ,
and after the softmax ("post") the boost finds less of all items, in a budget that cut it off; on
MovieLens-1M only alpha was tried, with the same outcome. The paper's gain is not reached (README;
`causalrec_quality.json`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from models.causal_graph import (
    DualState,
    acyclicity,
    before,
    cholesky_effects,
    direct_effects,
    gram_effects,
    null_sink_softmax,
    relation,
    unexplained,
)
from models.contract import Config, Edges, Histories, Loss, ModelError, Past, Steps, require
from models.direction import Directions, Rule, control, directions, standing_out
from models.sasrec import Attention, SASRec, SASRecConfig, attend

EFFECTS = ("direct", "attn", "cov_chol", "gram", "free", "cluster")
BOOSTS = ("renormalised", "post", "logits", "filter")
RELATIONS = ("learnt", "shuffled", "recency")
LARGEST_H = 1e-6  # of a graph that has no cycles by its form


@dataclass(frozen=True, kw_only=True)
class CausalRecConfig(SASRecConfig):
    """SASRec's knobs and those of the graph and the boost, with the paper's symbols."""

    alpha: float = 1.0  # strength of the boost; 0: SASRec
    effects: Literal["direct", "attn", "cov_chol", "gram", "free", "cluster"] = "direct"
    boost: Literal["renormalised", "post", "logits", "filter"] = "renormalised"
    # shuffled and recency are controls: the same R in another order, and 1 / (t - j)
    relation: Literal["learnt", "shuffled", "recency"] = "learnt"
    threshold: float = 0.0  # tau, share of a row's largest that an effect must be over
    floor: float = 0.1  # a row whose largest effect is below counts as if this were the largest
    sparsity: float = 1e-3  # lambda, of the L1 norm of W, a step
    unexplained: float = 0.0  # of the mean square that W leaves of z
    clusters: int = 32  # K, under "cluster"
    span: int = 50  # last steps of a sequence that the graph is of; what lies before is not boosted
    window: int = 5  # steps at most between items that are scored by their direction; 0: none
    shrinkage: float = 4.0  # of that score and of edges', in times that they stood side by side
    strong: float = 0.5  # share of the largest strength from which a step counts as a cause there
    every: int = 200  # steps of training between moves of the multiplier of cycles

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.alpha < math.inf, "alpha must be 0 or positive, finite")
        require(self.effects in EFFECTS, f"effects must be one of {EFFECTS}")
        require(self.boost in BOOSTS, f"boost must be one of {BOOSTS}")
        require(self.relation in RELATIONS, f"relation must be one of {RELATIONS}")
        require(0 <= self.threshold < 1, "threshold must be from 0 to below 1")
        require(0 <= self.floor <= 1, "floor must be from 0 to 1")
        require(0 <= self.sparsity < math.inf, "sparsity must be 0 or positive, finite")
        require(0 <= self.unexplained < math.inf, "unexplained must be 0 or positive, finite")
        require(self.clusters >= 2, "clusters must be at least 2")
        require(self.every >= 1, "every must be at least 1")
        require(self.span >= 1, "span must be at least 1")
        require(self.window >= 0, "window must be 0 or more")
        require(0 <= self.shrinkage < math.inf, "shrinkage must be 0 or positive, finite")
        require(0 <= self.strong <= 1, "strong must be from 0 to 1")

    @property
    def can_have_cycles(self) -> bool:
        """Whether the form of W leaves cycles to the penalty."""
        return self.effects in ("free", "cluster")

    @property
    def rule(self) -> Rule:
        """How the direction of pairs of items is scored."""
        return Rule(self.window, self.shrinkage, self.strong)


class Graph(NamedTuple):
    """What is discovered in the last S steps of B sequences."""

    effects: Tensor  # W, [B, S, S]: row t, what each step did to step t; 0 at pads
    z: Tensor  # [B, S, d]
    h: Tensor  # [] mean over sequences and steps, or of the one graph of clusters
    past: Past  # those steps
    at: Tensor | None  # [B, S] int64, where they stand among all T; None: they are all


class CausalRec(SASRec):
    """SASRec, a discovery head, and a boost of all blocks by what it finds."""

    config_type: ClassVar[type[Config]] = CausalRecConfig
    paper: ClassVar[str] = "CausalRec, arXiv:2510.21333 (base: Kang, McAuley, ICDM 2018)"
    assumes: ClassVar[str] = (
        "Steps cause later steps linearly, with independent noise of equal variance, and nothing "
        "unseen causes two of them; what a session's theme does is such a thing unseen."
    )

    def __init__(self, config: Config, n_users: int, n_items: int) -> None:
        if not isinstance(config, CausalRecConfig):
            raise TypeError(f"CausalRec needs a CausalRecConfig, not {type(config).__name__}")
        super().__init__(config, n_users, n_items)
        self.boosting = config
        # without a boost a training draws what one of SASRec draws: nothing for the graph
        with torch.random.fork_rng(devices=[], enabled=config.alpha == 0):
            self.discovery = _Discovery(config, n_items)
        self.dual = DualState(config.every)

    def prepare(self, histories: Histories) -> None:
        """Score the direction of all pairs of items."""
        if self.boosting.alpha and self.boosting.window:
            self.discovery.know(directions(histories, self.boosting.rule))

    def edges(self, histories: Histories, most: int) -> Edges:
        """Pairs of items that stand out by their order, more than in shuffled steps, best first."""
        rule = self.boosting.rule
        found = standing_out(histories, rule)
        shuffled = control(histories, rule, found.keys)
        above = np.flatnonzero(found.scores > shuffled)
        best = above[np.argsort(-found.scores[above], kind="stable")[:most]]
        return Edges(
            *np.divmod(found.keys[best], self.n_items),
            found.scores[best],
            found.supports[best],
            shuffled[best],
        )

    def effects(self, past: Past) -> Tensor:
        """W of these sequences, [B, T, T]; 0 where it is not looked for: all, without a boost."""
        if self.boosting.alpha == 0:  # the graph was never taught anything
            return torch.zeros(*past.items.shape, past.items.shape[1], device=past.items.device)
        graph = self.graph(past)
        return graph.effects if graph.at is None else _spread(graph.effects, graph.at, past)

    def forward(self, past: Past) -> Tensor:
        """The state after each step, [B, T, d]; what it says of pads means nothing."""
        x = self.embedded(past)  # [B, T, d]
        return self.encoded(x, self.attention(x, past))

    def attention(self, x: Tensor, past: Past) -> Attention:
        """Boosted, where there is a boost."""
        return attend if self.boosting.alpha == 0 else self._boost(self._graph(x, past), past)

    def graph(self, past: Past) -> Graph:
        """What is discovered in these sequences."""
        return self._graph(self.embedded(past), past)

    def relation(self, past: Past) -> Tensor:
        """R of the last steps, [B, S, S]: row t, what boosts the state after t."""
        return self._relation(self.graph(past))

    def loss(self, batch: Steps) -> Loss:
        """SASRec's loss and, where there is a boost, what the graph costs."""
        config = self.boosting
        if config.alpha == 0:
            return super().loss(batch)
        x = self.embedded(batch.past)  # [B, T, d]
        graph = self._graph(x, batch.past)
        found = self.loss_of(self.encoded(x, self._boost(graph, batch.past)), batch)
        n_steps = graph.past.sizes.sum()
        costs = {"sparsity": config.sparsity * graph.effects.abs().sum() / n_steps}
        if config.unexplained:
            rest = unexplained(graph.z.detach(), graph.effects)
            costs["unexplained"] = config.unexplained * rest
        if config.can_have_cycles:
            costs["cycles"] = self.dual.cost(graph.h)
        if self.training:
            self._watch(graph.h)
        return Loss(found.total + torch.stack(list(costs.values())).sum(), found.parts | costs)

    def _watch(self, h: Tensor) -> None:
        if self.boosting.can_have_cycles:
            self.dual.step(h)
        elif float(h) > LARGEST_H:
            raise ModelError(
                f"a graph that can only point back in time has cycles (h = {float(h):.2g}): "
                "a mask is wrong"
            )

    def _graph(self, x: Tensor, past: Past) -> Graph:
        span = self.boosting.span
        if x.shape[1] <= span:
            w, z, h = self.discovery(x, past)
            return Graph(w, z, h, past, None)
        rows = torch.arange(len(x), device=x.device).unsqueeze(-1)  # [B, 1]
        first = (past.sizes - span).clamp(min=0)  # [B]
        at = first.unsqueeze(-1) + torch.arange(span, device=x.device)  # [B, S]
        last = Past(past.items[rows, at], past.sizes.clamp(max=span), past.strengths[rows, at])
        w, z, h = self.discovery(x[rows, at], last)
        return Graph(w, z, h, last, at)

    def _boost(self, graph: Graph, past: Past) -> Attention:
        alpha, how = self.boosting.alpha, self.boosting.boost
        related = self._relation(graph)  # [B, S, S]
        if graph.at is None:
            return booster(related, alpha, how)
        if how == "renormalised":
            return partial(_late, _late_bias(related, alpha, graph.at, past), graph.at)
        itself = torch.eye(past.items.shape[1], device=related.device)
        return booster(_spread(related, graph.at, past).maximum(itself), alpha, how)

    def _relation(self, graph: Graph) -> Tensor:
        config, known = self.boosting, graph.past.is_real
        if config.relation == "recency":
            return relation(_recency(graph.effects), known)
        found = relation(graph.effects, known, config.threshold, config.floor)  # [B, S, S]
        return _shuffled(found, config.length) if config.relation == "shuffled" else found


def booster(related: Tensor, alpha: float, how: str) -> Attention:
    """Attention to oneself and before, stronger by R [B, T, T].

    renormalised: times 1 + alpha R, rows summing to 1. The others are for comparison: post, the
    same without; logits, the logits times 1 + alpha R; filter, only where R > 0.
    """
    itself = torch.eye(related.shape[-1], dtype=torch.bool, device=related.device)
    ahead = ~(before(related.shape[-1], related.device) | itself)
    by = related.unsqueeze(1)  # [B, 1, T, T]
    match how:
        case "renormalised":
            return partial(_biased, torch.log1p(alpha * by).masked_fill(ahead, -math.inf))
        case "filter":
            # at pads nothing relates, not even a step to itself, and something must be left
            return partial(_biased, torch.where((by > 0) | itself, 0.0, -math.inf))
        case _:
            return partial(_multiplied, 1 + alpha * by, ahead, how == "post")


def _biased(bias: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))


def _late_bias(related: Tensor, alpha: float, at: Tensor, past: Past) -> Tensor:
    """What the boost adds to the logits of the last steps, [B, 1, S, T]."""
    step = torch.arange(past.items.shape[1], device=at.device)
    ahead = step > at.unsqueeze(-1)  # [B, S, T]
    bias = _spread(torch.log1p(alpha * related), at, past, is_square=False)
    return bias.masked_fill(ahead, -math.inf).unsqueeze(1)


def _late(bias: Tensor, at: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Boosted for the last steps alone; for the others the attention that costs least."""
    asking = q.gather(2, at[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[3]))
    late = _biased(bias, asking, k, v)  # [B, heads, S, d / heads]
    return attend(q, k, v).scatter(2, at[:, None, :, None].expand_as(late), late)


def _spread(block: Tensor, at: Tensor, past: Past, *, is_square: bool = True) -> Tensor:
    """What is of the last steps [B, S, S] among all, [B, T, T]; or [B, S, T] if not is_square."""
    b, t = past.items.shape
    columns = at.unsqueeze(1).expand_as(block)
    wide = block.new_zeros(b, block.shape[1], t).scatter(2, columns, block)
    if not is_square:
        return wide
    return block.new_zeros(b, t, t).scatter(1, at.unsqueeze(-1).expand_as(wide), wide)


def _multiplied(
    factor: Tensor, ahead: Tensor, is_post: bool, q: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    logits = q @ k.mT / math.sqrt(q.shape[-1])  # [B, heads, T, T]
    logits = logits if is_post else logits * factor
    shares = logits.masked_fill(ahead, -math.inf).softmax(-1)
    return (shares * factor if is_post else shares) @ v


class _Discovery(nn.Module):
    """One head that finds W."""

    keys: Tensor  # [m] int64, cause * n_items + effect, ascending
    scores: Tensor  # [m] float32

    def __init__(self, config: CausalRecConfig, n_items: int) -> None:
        super().__init__()
        d = config.width
        self.how, self.window, self.n_items = config.effects, config.window, n_items
        self.norm = nn.LayerNorm(d)
        self.value, self.query, self.key = (nn.Linear(d, d, bias=False) for _ in range(3))
        # what weighs more than a click, what lies nearer, what comes before more often than after
        self.louder = nn.Parameter(torch.tensor(1.0))  # u
        self.nearer = nn.Parameter(torch.zeros(min(config.length, config.span)))  # b, by distance
        self.directed = nn.Parameter(torch.tensor(1.0))  # c
        # of the data, and kept with the weights: a graph is the same wherever it is drawn
        self.register_buffer("keys", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("scores", torch.zeros(0))
        if self.how == "cluster":
            self.member = nn.Linear(d, config.clusters)
            self.between = nn.Parameter(torch.randn(config.clusters, config.clusters) * 0.1)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, *others: Any
    ) -> None:
        # as many pairs as were scored then
        for name in ("keys", "scores"):
            if (kept := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(kept, device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *others)

    def forward(self, x: Tensor, past: Past) -> tuple[Tensor, Tensor, Tensor]:
        """W, z and h of these sequences, of x [B, T, d]; see `Graph`."""
        n, known = x.shape[1], past.is_real
        normed = self.norm(x)
        v = self.value(normed)
        scores = self.query(normed) @ self.key(normed).mT / math.sqrt(x.shape[-1])  # [B, T, T]
        scores = scores + self._known_before(past)
        both = known.unsqueeze(-1) & known.unsqueeze(-2)
        attention = null_sink_softmax(scores, both & before(n, x.device))
        z = (v + attention @ v) * known.unsqueeze(-1)
        # of half precision some forms are products, and alpha R is more than float16 holds
        effects = self._effects(scores, attention, z, normed).float() * both
        return effects, z, self._h(effects)

    def know(self, found: Directions) -> None:
        """Take the scores of pairs of items."""
        self.keys = torch.from_numpy(found.keys).to(self.keys.device)
        self.scores = torch.from_numpy(found.scores).to(self.scores.device)

    def _known_before(self, past: Past) -> Tensor:
        """What the strength, the distance and the direction of steps add to S, [B, T, T]."""
        step = torch.arange(past.items.shape[1], device=past.items.device)
        nearer = self.nearer[(step.unsqueeze(-1) - step).clamp(min=0)]  # [T, T]
        louder = self.louder * past.strengths.clamp(min=1e-6).log()  # [B, T]; pads are masked
        return nearer + louder.unsqueeze(1) + self.directed * self._direction(past.items)

    def _direction(self, items: Tensor) -> Tensor:
        b, t = items.shape
        known = torch.zeros(b, t, t, device=items.device)
        for lag in range(1, min(self.window, t - 1) + 1) if len(self.keys) else ():
            pairs = items[:, :-lag] * self.n_items + items[:, lag:]  # [B, T - lag]
            at = torch.searchsorted(self.keys, pairs).clamp(max=len(self.keys) - 1)
            scores = self.scores[at].where(self.keys[at] == pairs, 0)
            known.diagonal(-lag, dim1=1, dim2=2).copy_(scores)
        return known

    def _effects(self, scores: Tensor, attention: Tensor, z: Tensor, normed: Tensor) -> Tensor:
        n = scores.shape[-1]
        match self.how:
            case "direct":
                return direct_effects(attention)
            case "attn":
                return attention
            case "cov_chol":
                return cholesky_effects(z)
            case "gram":
                return gram_effects(z)
            case "free":
                # each by itself: a sum over the row would tell it what comes later
                return scores.sigmoid() * ~torch.eye(n, dtype=torch.bool, device=scores.device)
            case _:
                member: Tensor = self.member(normed).softmax(-1)  # [B, T, K]
                return (member @ self._between() @ member.mT).tril(-1)

    def _between(self) -> Tensor:
        itself = torch.eye(len(self.between), dtype=torch.bool, device=self.between.device)
        return self.between.masked_fill(itself, 0)

    def _h(self, effects: Tensor) -> Tensor:
        if self.how == "cluster":
            return acyclicity(self._between(), "logdet")
        if self.how == "free":
            return acyclicity(effects, "logdet").mean() / effects.shape[-1]
        # what can have none is watched, not learnt from; one sequence tells a wrong mask
        return acyclicity(effects[:1].detach().double(), "logdet").mean()


def _recency(effects: Tensor) -> Tensor:
    step = torch.arange(effects.shape[-1], device=effects.device)
    lag = (step.unsqueeze(-1) - step).clamp(min=1)
    return lag.reciprocal().expand_as(effects)


def _shuffled(related: Tensor, length: int) -> Tensor:
    """What lies before a step in another order, the same for all, however many; [B, T, T].

    None keeps its own, but where one alone lies before: short rows would often stay as they are.
    """
    n = related.shape[-1]
    drawn = torch.rand(length, length, generator=torch.Generator().manual_seed(0))
    drawn = torch.where(before(n), drawn[:n, :n], 2.0)
    drawn.fill_diagonal_(1.5)  # itself after those before it, as it stands, and then what is ahead
    order = drawn.argsort(dim=-1, stable=True)
    step = torch.arange(n)
    last = step.unsqueeze(-1) - 1  # [T, 1] of those before, in their order
    following = torch.where(step < last, step + 1, torch.where(step == last, 0, step))  # [T, T]
    of = order.scatter(-1, order, order.gather(-1, following)).to(related.device)
    return related.gather(-1, of.expand_as(related))
