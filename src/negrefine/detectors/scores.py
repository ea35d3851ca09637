"""The published scores as pure functions of cosine similarities. Larger means more in-distribution.

Every function takes float64 tensors (anything `torch.as_tensor` reads) with one row for each of n
images and returns one value per image. The notation follows the papers: s_k is the cosine of the
image with class name k of K, n_j with negative label j of M, c the factor on cosines (logit scale).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Similarities: TypeAlias = "Tensor"
Part = TypeVar("Part", float, NDArray[np.float64], "Tensor")


def mcm_score(class_similarities: Similarities, temperature: float = 1.0) -> Tensor:
    """Maximum concept matching: max_k softmax_k(s_k / temperature), (n,) in [1/K, 1].

    MCM, NeurIPS 2022, arXiv 2211.13445, eq. 1. The temperature, 1.0 as published, divides the raw
    cosines (n, K).
    """
    s = _as_tensor(class_similarities)
    return (s / temperature).softmax(dim=-1).amax(dim=-1)


def max_logit_score(class_similarities: Similarities, logit_scale: float = 1.0) -> Tensor:
    """Largest scaled cosine of (n, K) cosines: max_k c s_k, (n,) in [-c, c].

    A baseline in MCM's code (c = 1) and CLIPN's (c = 100).
    """
    return _as_tensor(class_similarities).amax(dim=-1) * logit_scale


def sigmoid_score(
    class_similarities: Similarities, logit_scale: float, logit_bias: float
) -> Tensor:
    """Largest probability of a pair of (n, K) cosines: max_k sigmoid(c s_k + b), (n,) in [0, 1].

    SigLIP, ICCV 2023, arXiv 2303.15343, whose c and b are learnt, b about -10 or less.
    """
    return (_as_tensor(class_similarities).amax(dim=-1) * logit_scale + logit_bias).sigmoid()


def energy_score(class_similarities: Similarities, temperature: float = 1.0) -> Tensor:
    """Negative free energy of (n, K) cosines or logits: T logsumexp_k(s_k / T), (n,), unbounded.

    A baseline in MCM's code and CLIPN's, where T = 1 on 100 times the cosines.
    """
    s = _as_tensor(class_similarities)
    return temperature * (s / temperature).logsumexp(dim=-1)


def negative_entropy_score(class_similarities: Similarities, temperature: float = 1.0) -> Tensor:
    """Negated entropy of softmax_k(s_k / T) of (n, K) cosines, in nats: (n,) in [-log K, 0].

    A baseline in MCM's code.
    """
    s = _as_tensor(class_similarities) / temperature
    return (s.softmax(dim=-1) * s.log_softmax(dim=-1)).sum(dim=-1)


def variance_score(class_similarities: Similarities, temperature: float = 1.0) -> Tensor:
    """Population variance over k of softmax_k(s_k / T) of (n, K) cosines: (n,), 0 or more.

    A baseline in MCM's code.
    """
    s = _as_tensor(class_similarities)
    return (s / temperature).softmax(dim=-1).var(dim=-1, correction=0)


def local_mcm_score(patch_similarities: Similarities, temperature: float = 1.0) -> Tensor:
    """GL-MCM's local term: max over patches p and classes k of softmax_k(z_p.T_k / temperature).

    GL-MCM, arXiv 2304.04521. Takes (n, p, K) cosines of the patches and returns (n,) in [1/K, 1].
    The published score is `mcm_score` of the image feature plus lambda times this.
    """
    return mcm_score(patch_similarities, temperature).amax(dim=-1)


def yes_probability(
    yes_similarities: Similarities, no_similarities: Similarities, logit_scale: float = 100.0
) -> Tensor:
    """CLIPN's probability that class k is present: q_k = sigmoid(y_k - o_k), (n, K) in [0, 1].

    CLIPN, ICCV 2023, arXiv 2308.12213. It is the softmax over yes and no; y_k and o_k are the
    cosines (n, K) with the class under the "yes" and the "no" text encoder times the logit scale,
    100 as published.
    """
    yes, no = _as_tensor(yes_similarities), _as_tensor(no_similarities)
    return (logit_scale * (yes - no)).sigmoid()


def competing_to_win_score(
    yes_similarities: Similarities, no_similarities: Similarities, logit_scale: float = 100.0
) -> Tensor:
    """CLIPN's CTW: `yes_probability` of the class with the largest yes similarity, (n,) in [0, 1].

    CLIPN, ICCV 2023, arXiv 2308.12213.
    """
    best = _as_tensor(yes_similarities).argmax(dim=-1, keepdim=True)
    q = yes_probability(yes_similarities, no_similarities, logit_scale)
    return q.gather(-1, best).squeeze(-1)


def agreeing_to_differ_score(
    yes_similarities: Similarities, no_similarities: Similarities, logit_scale: float = 100.0
) -> Tensor:
    """CLIPN's ATD: sum_k softmax_k(y_k) q_k with q of `yes_probability`, (n,) in [0, 1].

    CLIPN, ICCV 2023, arXiv 2308.12213. One minus it is the probability of an extra class for
    everything that is none of the K.
    """
    p = (logit_scale * _as_tensor(yes_similarities)).softmax(dim=-1)
    return (p * yes_probability(yes_similarities, no_similarities, logit_scale)).sum(dim=-1)


def group_negatives(
    n_negatives: int, n_groups: int, *, seed: int = 0, official: bool = True
) -> Tensor:
    """Assign M negative labels to G groups at random, as int64 (G, W) column indices.

    The official code uses seed 0 on the processor and leaves out the last M mod G labels (all if
    M < G). With `official=False` every label is used, group sizes differ by at most one, no group
    is empty, and -1 fills up shorter groups. With one group every label is in order in it.
    """
    import torch

    if n_groups <= 1:
        return torch.arange(n_negatives).reshape(1, -1)
    if official:
        n_used = n_negatives - n_negatives % n_groups
        order = torch.randperm(n_used, generator=torch.Generator().manual_seed(seed))
        return order.reshape(n_groups, n_used // n_groups)
    n_groups = min(n_groups, n_negatives)
    order = torch.randperm(n_negatives, generator=torch.Generator().manual_seed(seed))
    width = math.ceil(n_negatives / n_groups)
    groups = torch.full((n_groups, width), -1)
    for row, part in zip(groups, torch.tensor_split(order, n_groups), strict=True):
        row[: len(part)] = part
    return groups


def neglabel_score(
    class_similarities: Similarities,
    negative_similarities: Similarities,
    groups: Tensor,
    logit_scale: float = 100.0,
) -> Tensor:
    """Mass on the classes in a softmax over classes and negatives, averaged over groups.

    NegLabel, ICLR 2024, arXiv 2403.20078 (eq. 4 with the grouping strategy); also S_NegLabel of
    CSP and NegRefine:

        S = 1/G sum_g [ sum_k e^(c s_k) / (sum_k e^(c s_k) + sum_(j in g) e^(c n_j)) ]

    Computed as mean_g sigmoid(logsumexp_k(c s_k) - logsumexp_(j in g)(c n_j)), which is the same
    and cannot overflow. Takes cosines (n, K) and (n, M) and the groups (G, W) of `group_negatives`;
    c is 100 as published. Returns (n,) in [0, 1].
    """
    import torch

    s = _as_tensor(class_similarities) * logit_scale
    n = _as_tensor(negative_similarities) * logit_scale
    positive = s.logsumexp(dim=-1, keepdim=True)
    if groups.shape[-1] == 0:
        # The sigmoid of infinity, without G columns of it.
        return positive.new_ones(positive.shape[:-1])
    flat = n.index_select(-1, groups.clamp_min(0).flatten())
    grouped = flat.reshape(*flat.shape[:-1], *groups.shape)
    # What is compiled or exported cannot ask for values.
    if torch.compiler.is_compiling() or (groups < 0).any():
        grouped = grouped.masked_fill(groups < 0, -math.inf)
    return (positive - grouped.logsumexp(dim=-1)).sigmoid().mean(dim=-1)


def near_mass(
    class_similarities: Similarities,
    near_similarities: Similarities,
    logit_scale: float = 100.0,
) -> Tensor:
    """Mass on proposed labels in a softmax over classes and proposed labels, (n,) in [0, 1].

    Takes cosines (n, K) and (n, P), P at least one. Larger means more like a proposed label, and
    so more out-of-distribution: sigmoid(logsumexp_p(c n_p) - logsumexp_k(c s_k)).
    """
    s = _as_tensor(class_similarities) * logit_scale
    n = _as_tensor(near_similarities) * logit_scale
    return (n.logsumexp(dim=-1) - s.logsumexp(dim=-1)).sigmoid()


def with_near_group(neglabel: Part, near: Part, n_groups: int) -> Part:
    """S_NegLabel of G mined groups with one more group, whose mass on the classes is 1 - near:

    S = (G S_mined + 1 - near) / (G + 1).
    """
    return (n_groups * neglabel + (1 - near)) / (n_groups + 1)


def vsnl_score(
    class_similarities: Similarities,
    near_similarities: Similarities,
    logit_scale: float = 100.0,
    *,
    group_length: int = 100,
    seed: int = 0,
) -> Tensor:
    """ANTS's near score: mass on the classes against near labels, (n,) in [0, 1].

    ANTS (CVPR 2026, arXiv 2509.03951), its branch of visually similar negative labels. Takes
    cosines (n, K) and (n, P). Up to `group_length` labels are in one softmax; more are drawn into
    P // group_length groups of equal size, the last P mod G labels left out, and averaged over.
    """
    n_labels = _as_tensor(near_similarities).shape[-1]
    n_groups = n_labels // group_length if n_labels > group_length else 1
    groups = group_negatives(n_labels, n_groups, seed=seed)
    return neglabel_score(class_similarities, near_similarities, groups, logit_scale)


def raw_sum_score(class_similarities: Similarities, logit_scale: float = 100.0) -> Tensor:
    """Sum over the (n, K) cosines of c s_k, (n,), unbounded: no softmax and no negatives.

    What the official NegLabel code returns for one group, where the formula is lost.
    """
    return _as_tensor(class_similarities).sum(dim=-1) * logit_scale


def multi_match_score(
    pair_similarities: Similarities,
    negative_similarities: Similarities,
    logit_scale: float = 100.0,
) -> Tensor:
    """NegRefine's S_MM: does "class and negative" describe the image better than the negative?

    NegRefine, ICCV 2025, arXiv 2507.09795. With t_ij the embedding of "p_i and n_j" for the k most
    similar class names i and negative labels j:

        S_MM = max_ij e^(c x.t_ij) / (e^(c x.t_ij) + e^(c n_j)) = sigmoid(max_ij c (x.t_ij - n_j))

    The right-hand side is exact and cannot overflow. Takes the cosines x.t_ij (n, I, J) and n_j
    (n, J) of the same negatives; c is 100 as published. Returns (n,) in [0, 1].
    """
    margins = multi_match_margins(pair_similarities, negative_similarities, logit_scale)
    return margins.flatten(1).amax(dim=-1).sigmoid()


def multi_match_margins(
    pair_similarities: Similarities,
    negative_similarities: Similarities,
    logit_scale: float = 100.0,
) -> Tensor:
    """Return c (x.t_ij - n_j) of shape (n, I, J); the largest entry decides `multi_match_score`."""
    t = _as_tensor(pair_similarities)
    n = _as_tensor(negative_similarities)
    return logit_scale * (t - n.unsqueeze(1))


def negrefine_score(neglabel: Part, multi_match: Part, alpha: float | Part) -> Part:
    """NegRefine's score: S = S_NegLabel + alpha S_MM, alpha = 2 as published.

    NegRefine, ICCV 2025, arXiv 2507.09795. An alpha for each image (n,) is not published.
    """
    return neglabel + alpha * multi_match


def eoe_score(
    class_similarities: Similarities,
    negative_similarities: Similarities,
    temperature: float = 1.0,
    beta: float = 0.25,
) -> Tensor:
    """EOE: the most likely class against the most likely outlier, (n,) in [-beta, 1].

    EOE, ICML 2024, arXiv 2406.00806. With p the softmax over classes and negatives of the raw
    cosines (n, K) and (n, M) divided by the temperature, 1 as published:

        S = max_(k <= K) p_k - beta max_(j > K) p_j
    """
    import torch

    s, n = _as_tensor(class_similarities), _as_tensor(negative_similarities)
    # In single precision a temperature of 0.01 would cost five decimals.
    p = (torch.cat([s, n], dim=-1).double() / temperature).softmax(dim=-1)
    k = s.shape[-1]
    return p[..., :k].amax(dim=-1) - beta * p[..., k:].amax(dim=-1)


def tanl_score(
    class_similarities: Similarities,
    chosen_similarities: Similarities,
    stride: int = 1,
    logit_scale: float = 100.0,
) -> Tensor:
    """TANL: mass on the classes against the first m chosen labels, averaged over m, (n,) in [0, 1].

    TANL, CVPR 2026, arXiv 2603.25250, eq. 15. With a = logsumexp_k(c s_k) and b_m the logsumexp of
    the first m of M labels, the mean of sigmoid(a - b_m) over m = stride, 2 stride, ..., and M,
    which is added if the stride does not divide it. With stride 0, sigmoid(a - b_M) alone.

    Takes cosines (n, K) with classes and (n, M) with the chosen labels, the most active first.
    """
    import torch

    positive = (_as_tensor(class_similarities) * logit_scale).logsumexp(dim=-1, keepdim=True)
    chosen = _as_tensor(chosen_similarities) * logit_scale
    if stride == 0:
        return (positive - chosen.logsumexp(dim=-1, keepdim=True)).sigmoid().squeeze(-1)
    m = chosen.shape[-1]
    counts = list(range(stride, m + 1, stride))
    if not counts or counts[-1] != m:
        counts.append(m)
    sums = chosen.logcumsumexp(dim=-1)[..., torch.tensor(counts) - 1]
    return (positive - sums).sigmoid().mean(dim=-1)


def stable_topk(values: Tensor, k: int) -> Tensor:
    """Return the column indices (n, k) of the k largest values, best first, ties by column.

    `torch.topk` leaves the order of ties open; only rows with a tie pay for a full sort.
    """
    k = min(k, values.shape[-1])
    # One value more shows a tie between the last one taken and the first one left out.
    top, index = values.topk(min(k + 1, values.shape[-1]), dim=-1)
    index = index[:, :k].contiguous()
    tied = (top[:, 1:] == top[:, :-1]).any(dim=-1)
    if k > 0 and tied.any():
        order = values[tied].argsort(dim=-1, descending=True, stable=True)
        index[tied] = order[:, :k]
    return index


def _as_tensor(values: Any) -> Tensor:
    # The command line lists the parameters of methods without importing torch.
    import torch

    return torch.as_tensor(values)
