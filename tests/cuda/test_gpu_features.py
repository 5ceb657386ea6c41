"""What is around layers and operations works on CUDA as on the CPU.

A scenario is a function of a device that returns what is to be compared: training
loops, optimisers' states, transforms of functions, generated text, exchange of memory.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from on_device import to_host
from training import mlp, numbers, samples, train_some, weights

import nnlib
from nnlib import func, models, nn
from nnlib.data import DataLoader, TensorDataset
from nnlib.optim import lr_scheduler, swa_utils

F = nn.functional
Scenario = Callable[[str], Any]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


@scenario
def fit_and_evaluate(device: str) -> Any:
    from nnlib.train import evaluate, fit, predict

    model = mlp(device)
    data = TensorDataset(*samples())
    history = fit(
        model,
        DataLoader(data, batch_size=16, shuffle=True, generator=3),
        optimizer=nnlib.optim.Adam(model.parameters(), lr=0.01),
        validation=DataLoader(data, batch_size=20),
        scheduler=None,
        clip_norm=1.0,
        epochs=3,
        device=device,
        progress=False,
    )
    model.eval()
    told = evaluate(model, DataLoader(data, batch_size=48))
    found = predict(model, samples()[0].to(device), batch_size=13)
    assert found.device.type == device
    curves = [np.array(history[key]) for key in ("loss", "val_loss")]
    return [*curves, np.array(list(told.values())), found, *weights(model)]


@scenario
def fit_on_the_device_s_own_tensors(device: str) -> Any:
    from nnlib.train import fit

    model = mlp(device)
    data = TensorDataset(*(part.to(device) for part in samples()))
    history = fit(
        model,
        DataLoader(data, batch_size=16, shuffle=True, generator=3),
        optimizer=nnlib.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        epochs=2,
        progress=False,
    )
    return [np.array(history["loss"]), *weights(model)]


@scenario
def state_dict_of_an_optimizer_handed_over(device: str) -> Any:
    model = mlp(device)
    first = nnlib.optim.Adam(model.parameters(), lr=0.01)
    train_some(model, first, device)
    second = nnlib.optim.Adam(model.parameters(), lr=0.5)
    second.load_state_dict(first.state_dict())
    return [*train_some(model, second, device), *weights(model)]


@scenario
def averages_of_weights(device: str) -> Any:
    model = mlp(device)
    mean = swa_utils.AveragedModel(model)
    ema = swa_utils.AveragedModel(
        model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9)
    )
    optimizer = nnlib.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        train_some(model, optimizer, device, 1)
        mean.update_parameters(model)
        ema.update_parameters(model)
    x, y = (part.to(device) for part in samples())
    swa_utils.update_bn(DataLoader(TensorDataset(x, y), batch_size=16), mean)
    return [*weights(mean), *weights(ema)]


@scenario
def clipping(device: str) -> Any:
    model = mlp(device)
    x, y = (part.to(device) for part in samples())
    (F.cross_entropy(model(x), y) * 100).backward()
    total = nn.utils.get_total_norm([p.grad for p in model.parameters()])
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    nn.utils.clip_grad_value_(model.parameters(), 0.05)
    flat = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(flat * 2, model.parameters())
    return [total, norm, flat, *(p.grad for p in model.parameters()), *weights(model)]


@scenario
def schedules(device: str) -> Any:
    model = mlp(device)
    optimizer = nnlib.optim.SGD(model.parameters(), lr=0.1)
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=6)
    for _ in range(5):
        train_some(model, optimizer, device, 1)
        schedule.step()
    return weights(model)


@scenario
def checkpointing(device: str) -> Any:
    nnlib.manual_seed(0)
    part = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.4)).double()
    part.to(device)
    x = numbers(5, 6).to(device).requires_grad_()
    out = nnlib.autograd.checkpoint(part, x)
    out.square().sum().backward()
    return [out, x.grad, *(p.grad for p in part.parameters())]


@scenario
def modes(device: str) -> Any:
    model = mlp(device).eval()
    x = samples()[0].to(device)
    with nnlib.no_grad():
        a = model(x)
    with nnlib.inference_mode():
        b = model(x)
    assert not a.requires_grad and not b.requires_grad
    with nnlib.autograd.detect_anomaly():
        c = model(x).sum()
        c.backward()
    return [a, b, c]


@scenario
def transforms(device: str) -> Any:
    a, b = numbers(4, 3).to(device), numbers(3, seed=5).to(device)

    def f(x: Any) -> Any:
        return (x * b).tanh().sum() + (x @ x)

    rows = func.vmap(func.grad(f))(a)
    value, tangent = func.jvp(f, (b,), (b * 2,))
    whole, back = func.vjp(lambda x: (a @ x).exp(), b)
    return [
        rows, value, tangent, whole, *back(whole), func.hessian(f)(b),
        func.jacrev(lambda x: a @ x.sin())(b), func.jacfwd(lambda x: a @ x.sin())(b),
        nnlib.autograd.functional.jacobian(lambda x: x.exp(), b),
    ]  # fmt: skip


@scenario
def gradients_per_sample(device: str) -> Any:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    nnlib.manual_seed(1)
    for p in model.parameters():
        p.data.copy_(nnlib.randn(*p.shape, dtype="float64"))
    model.to(device)
    named = {name: p.detach() for name, p in model.named_parameters()}
    x, y = (part[:7].to(device) for part in samples())

    def loss(own: Any, image: Any, label: Any) -> Any:
        out = func.functional_call(model, own, (image[None],))
        return F.cross_entropy(out, label[None])

    return list(func.vmap(func.grad(loss), in_dims=(None, 0, 0))(named, x, y).values())


@scenario
def second_derivatives(device: str) -> Any:
    nnlib.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(18, 1))
    net.double().to(device)
    x = numbers(2, 1, 5, 5).to(device).requires_grad_()
    (slope,) = nnlib.autograd.grad(net(x).sum(), x, create_graph=True)
    slope.square().sum().backward()
    return [slope, x.grad, *(p.grad for p in net.parameters() if p.grad is not None)]


@scenario
def densities(device: str) -> Any:
    d = nnlib.distributions
    mean, spread = numbers(5).to(device), numbers(5, seed=6).exp().to(device)
    normal = d.Normal(mean, spread)
    other = d.Normal(mean * 0, spread * 0 + 1)
    at = numbers(5, seed=7).to(device)
    classes = d.Categorical(logits=numbers(4, 3).to(device))
    found = [
        normal.log_prob(at), normal.entropy(), d.kl_divergence(normal, other),
        normal.cdf(at), d.Laplace(mean, spread).log_prob(at),
        d.Gumbel(mean, spread).log_prob(at), classes.entropy(),
        classes.log_prob(nnlib.tensor([0, 2, 1, 1]).to(device)),
        d.Bernoulli(logits=at).log_prob((at > 0).double()),
        d.Independent(normal, 1).log_prob(at),
    ]  # fmt: skip
    nnlib.manual_seed(2)
    found += [
        normal.rsample((3,)),
        classes.sample((6,)),
        d.Bernoulli(logits=at).sample(),
    ]
    found += [d.Multinomial(6, logits=numbers(3).to(device)).sample()]
    soft = d.RelaxedOneHotCategorical(
        nnlib.tensor(0.7).double().to(device), logits=numbers(4, 3).to(device)
    )
    return [*found, soft.rsample()]


def make_translator(device: str) -> tuple[Any, Any, Any]:
    nnlib.manual_seed(0)
    model = models.Seq2Seq(11, 13, 6, 8).double().eval().to(device)
    source = np.random.default_rng(1).integers(3, 11, (3, 5))
    source[1, 3:] = source[2, 4:] = 0
    return model, nnlib.tensor(source).to(device), nnlib.tensor([5, 3, 4])


@scenario
def translations(device: str) -> Any:
    model, source, lengths = make_translator(device)
    greedy = model.greedy(source, lengths, 9)
    beams = model.beam_search(source, lengths, 3, 9)
    out = model(source, lengths, source)
    out.sum().backward()
    told = [row for found in (greedy, beams) for row in found.tokens]
    return [out, *map(np.array, told), *(p.grad for p in model.parameters())]


@scenario
def adversaries(device: str) -> Any:
    from nnlib.train import fit_gan

    nnlib.manual_seed(0)
    maker = models.DCGANGenerator(5, 1, 28, 2).double().to(device)
    judge = models.DCGANDiscriminator(1, 28, 2).double().to(device)
    images = TensorDataset(numbers(8, 1, 28, 28).tanh())
    history = fit_gan(
        maker,
        judge,
        DataLoader(images, batch_size=4),
        generator_optimizer=nnlib.optim.Adam(maker.parameters()),
        discriminator_optimizer=nnlib.optim.Adam(judge.parameters()),
        latents=5,
        epochs=1,
        progress=False,
    )
    return [np.array(column) for column in history.values()]


@scenario
def features(device: str) -> Any:
    from nnlib.train import extract_features

    model = mlp(device).eval()
    data = DataLoader(TensorDataset(*samples()), batch_size=20)
    found = extract_features(model, data, "2")
    return [nnlib.as_tensor(part) for part in found.tensors]


@scenario
def words_of_a_text(device: str) -> Any:
    from nnlib.text import Word2Vec

    text = [[f"w{i % 7}" for i in range(k, k + 9)] for k in range(40)]
    found = []
    for cbow in (False, True):
        trainer = Word2Vec(
            text, 8, cbow=cbow, window=2, min_count=1, sample=0.0, generator=0,
            device=device,
        )  # fmt: skip
        trainer.train(1)
        found.append(np.isfinite(np.asarray(trainer.vectors.vectors)))
    return found


@scenario
def sparse_gradients(device: str) -> Any:
    found = []
    ids = nnlib.tensor([[1, 4, 1], [6, 0, 4]]).to(device)
    for name in ("SGD", "Adagrad", "SparseAdam"):
        nnlib.manual_seed(0)
        table = nn.Embedding(7, 5, sparse=True).double().to(device)
        optimizer = getattr(nnlib.optim, name)(table.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            table(ids).square().sum().backward()
            optimizer.step()
        found.append(table.weight)
    ins, outs = (numbers(7, 5, seed=s).to(device).requires_grad_() for s in (1, 2))
    loss = F.skipgram_loss(ins, outs, ids[:, 0], ids[:, 1], ids, sparse=False)
    loss.backward()
    return [*found, loss, ins.grad, outs.grad]


@scenario
def sums(device: str) -> Any:
    x = numbers(3, 4, 5, 6).to(device)
    dims = ((0,), (0, 1), (0, 2, 3), (0, 3), (2, 3), (1,), (1, 3), (0, 1, 2, 3), (0, 2))
    found = [x.sum(d, keepdim=keep) for d in dims for keep in (False, True)]
    found += [x.float().sum((0, 2, 3)), x.transpose(0, 1).sum(0), x[:0].sum(0)]
    rows = numbers(5000, 7).to(device)
    return [*found, rows.sum(0), rows.mean(0), rows.t().sum(1), rows.var(0)]


@scenario
def indexing(device: str) -> Any:
    x = nnlib.arange(24.0).reshape(4, 6).to(device)
    rows = nnlib.tensor([2, 0, 2]).to(device)
    x[1] = -1.0
    x[:, 2:4] = nnlib.tensor([7.0, 8.0]).to(device)
    x[x > 20] = 0.5
    x[rows, 1] = 3.0
    x[0, ::2] *= 2
    y = x.clone()
    y.add_(1).mul_(2).clamp_(max=9.0).masked_fill_(y > 8, 0.0)
    y[..., -1].zero_()
    picked = [x[rows], x[[0, 3]], x[:, None, 1], x[x > 3], x[1:, ::3], x[-1], x[2, 3]]
    return [
        x,
        y,
        *picked,
        x.index_select(0, rows),
        x.gather(0, rows[None]),
        x.nonzero(),
    ]


@scenario
def copies(device: str) -> Any:
    x = numbers(3, 2).to(device)
    p = nn.Parameter(x)
    twin, again = copy.deepcopy(p), pickle.loads(pickle.dumps(x))  # noqa: S301
    model = copy.deepcopy(mlp(device))
    assert twin.device.type == device and again.device.type == device
    assert all(q.device.type == device for q in model.parameters())
    assert twin.requires_grad and twin is not p
    with nnlib.no_grad():
        p.zero_()
    return [twin, again, *weights(model)]


@scenario
def printing(device: str) -> Any:
    x = nnlib.tensor([[1.5, -2.0], [3.25, 1e6]]).to(device)
    told = repr(x)
    assert ("cuda" in told) == (device != "cpu")
    assert f"{x[0, 0]:.2f}" == "1.50" and str(x[0, 1].item()) == "-2.0"
    assert len(x) == 2 and [row.tolist() for row in x] == x.tolist()
    assert bool(x[0, 0] > 1) and int(x[1, 1]) == 1_000_000
    assert 1.5 in x
    return told.split("device")[0].rstrip(" ,)").split()


@scenario
def flops_of_hooks(device: str) -> Any:
    model = mlp(device)
    seen: list[Any] = []
    model[1].register_forward_hook(lambda m, args, out: seen.append(out.detach()))
    x = samples()[0].to(device).requires_grad_()
    x.register_hook(lambda grad: grad * 2)
    model(x).sum().backward()
    nn.utils.spectral_norm(model[0])
    nn.utils.weight_norm(model[3])
    return [*seen, x.grad, model(x)]


@scenario
def sixteen_bits(device: str) -> Any:
    found = []
    for name in ("float16", "bfloat16"):
        nnlib.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to(name)
        out = model.to(device)(samples()[0].to(name).to(device))
        out.float().sum().backward()
        found += [out.float() / 30, model[2].bias.grad.float()]
    # A sixteen-bit float has two or three digits.
    return [nnlib.round(x, decimals=1) for x in found]


def compare(name: str, device: str) -> None:
    mine, theirs = (SCENARIOS[name](place) for place in (device, "cpu"))
    assert len(mine) == len(theirs) > 0
    for one, other in zip(mine, theirs, strict=True):
        if isinstance(one, str):
            assert one == other
            continue
        if isinstance(one, nnlib.Tensor) and one.ndim:
            assert one.device.type == device
        one, other = to_host(one), to_host(other)
        assert one.shape == other.shape and one.dtype == other.dtype
        single = one.dtype.itemsize <= 4
        rtol, atol = (1e-4, 1e-5) if single else (1e-7, 1e-9)
        np.testing.assert_allclose(one, other, rtol, atol)


@pytest.mark.cuda
@pytest.mark.parametrize("name", SCENARIOS)
def test_cuda_does_what_the_cpu_does(name: str) -> None:
    compare(name, "cuda")
    nnlib.cuda.synchronize()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_scenarios_themselves(name: str) -> None:
    """The CPU against itself, so that the tests above can be trusted unseen."""
    compare(name, "cpu")
