import pytest
import torch

from vae.model.autoencoder import Architecture, Vae
from vae.model.linear import principal_components


def perturbed(dimension: int = 12, latents: int = 3) -> tuple[Vae, torch.Tensor]:
    """A model away from its linear start, in double precision, and its data."""
    x = torch.randn(400, dimension, dtype=torch.float64) @ torch.randn(dimension, dimension, dtype=torch.float64)
    model = Vae.from_components(Architecture(dimension, 8, latents, 16, 2), principal_components(x))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model, x


def test_squared_error_in_the_basis_is_the_squared_error_of_the_points() -> None:
    """|x - x(z)|^2 = |y - y(z)|^2 + |remainder|^2, which lets training leave the points behind."""
    model, x = perturbed()
    z = torch.randn(len(x), 3, dtype=torch.float64)
    coordinates = model.observe(x)

    in_basis = (coordinates.values - model.decode(z)).square().sum(-1) + coordinates.remainder

    torch.testing.assert_close(in_basis, (x - model.expand(model.decode(z))).square().sum(-1), rtol=1e-10, atol=0.0)


def test_untrained_model_reconstructs_like_shrunk_pca() -> None:
    """At the start the decoder at the posterior mean is pPCA's: PCA scores shrunk by 1 - noise / variance."""
    x = torch.randn(500, 6, dtype=torch.float64) * torch.tensor([3.0, 2.0, 1.0, 0.3, 0.2, 0.1], dtype=torch.float64)
    components = principal_components(x)
    model = Vae.from_components(Architecture(6, 6, 2, 8, 1), components)

    with torch.no_grad():
        reconstruction = model.expand(model.decode(model.encode(model.observe(x).values).mean))

    shrinkage = 1.0 - components.noise_variance(2) / components.variances[:2]
    scores = (x - components.mean) @ components.vectors[:, :2] * shrinkage
    expected = components.mean + scores @ components.vectors[:, :2].T
    torch.testing.assert_close(reconstruction, expected, rtol=0.0, atol=1e-12)


def test_draws_depend_on_the_latents() -> None:
    model, _ = perturbed()
    z = torch.randn(2, 3, dtype=torch.float64)
    first, second = model.decode(z)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(("basis", "latents"), [(2, 3), (13, 3), (4, 0)])
def test_sizes_that_do_not_fit_are_refused(basis: int, latents: int) -> None:
    with pytest.raises(ValueError, match=f"latents \\({latents}\\) <= basis \\({basis}\\)"):
        Architecture(12, basis, latents, 8, 1)


def test_data_with_too_few_directions_is_refused() -> None:
    x = torch.ones(100, 6, dtype=torch.float64)
    x[:, 0] = torch.arange(100)
    with pytest.raises(ValueError, match="varies in 1 directions only, fewer than basis = 4"):
        Vae.from_components(Architecture(6, 4, 1, 8, 1), principal_components(x))


def test_the_last_latents_can_go_where_they_are_zero() -> None:
    """The decoder at z = (z', 0) and the posterior of the others stay."""
    model, x = perturbed()
    less = model.without_last_latents(1)
    seen, z = model.observe(x), torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(less.decode(z), model.decode(torch.cat([z, torch.zeros(5, 1, dtype=torch.float64)], 1)))
    whole, kept = model.encode(seen.values), less.encode(seen.values)
    torch.testing.assert_close(kept.mean, whole.mean[:, :2])
    torch.testing.assert_close(kept.log_std, whole.log_std[:, :2])


@pytest.mark.slow
def test_a_scale_can_be_decoded_from_the_latents() -> None:
    """It starts as that of factor analysis, keeps its floor and the latents that go, and its Jacobian is torch's."""
    x = torch.randn(400, 7).double() @ torch.randn(7, 7).double()
    components = principal_components(x)
    decoded, own = (
        Vae.from_components(Architecture(7, 5, 3, 8, 2, scale=scale, scale_floor=0.01), components)
        for scale in ("decoded", "point")
    )
    z = torch.randn(4, 3).double()
    torch.testing.assert_close(decoded.scale_at(z), own.scale.expand(4, -1))
    with torch.no_grad():
        for parameter in decoded.scale_network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        z[:, 2] = 0.0
        scale, jacobian = decoded.scale_with_jacobian(z)
        torch.testing.assert_close(scale, decoded.scale_at(z))
        torch.testing.assert_close(decoded.without_last_latents(1).scale_at(z[:, :2]), scale)
        decoded.log_scale.fill_(-100.0)
        torch.testing.assert_close(decoded.scale_at(z), torch.full((4, 7), 0.01).double())
        decoded.log_scale.copy_(own.log_scale)
    found = torch.autograd.functional.jacobian(lambda at: decoded.scale_at(at).log().sum(0), z)  # [D, batch, latent]
    torch.testing.assert_close(jacobian, found.permute(1, 2, 0))


def test_missing_points_are_filled_by_the_linear_model() -> None:
    x = torch.randn(300, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    components = principal_components(x)
    model = Vae.from_components(Architecture(6, 6, 2, 8, 1, sees_missing=True), components)
    holes = torch.where(torch.rand(x.shape) < 0.4, torch.nan, x)
    filled = torch.where(holes.isnan(), components.complete(holes, 2), x)

    seen = model.observe(holes)

    torch.testing.assert_close(model.expand(seen.values), filled)
    torch.testing.assert_close(seen.missing, holes.isnan().double())
    whole = model.observe(x, points=True)
    hidden = model.mask(whole, holes.isnan().double())
    torch.testing.assert_close(hidden.values, seen.values)


def test_a_model_of_complete_surfaces_refuses_others() -> None:
    model, x = perturbed()
    x[3, 4] = torch.nan
    with pytest.raises(ValueError, match="was not trained to read surfaces with missing points"):
        model.observe(x)


def test_a_logarithm_needs_positive_points() -> None:
    x = torch.rand(50, 4, dtype=torch.float64) + 0.1
    model = Vae.from_components(Architecture(4, 4, 1, 8, 1, transform="log"), principal_components(x.log()))
    torch.testing.assert_close(model.expand(model.observe(x).values), x)
    with pytest.raises(ValueError, match="transform: log needs points above 0"):
        model.observe(-x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"likelihood": "poisson"}, "likelihood is 'poisson'; allowed: gaussian, bernoulli"),
        ({"scale": "each"}, "scale is 'each'; allowed: shared, point"),
        ({"transform": "sqrt"}, "transform is 'sqrt'; allowed: none, log"),
        ({"likelihood": "bernoulli", "scale": "point"}, "a bernoulli likelihood has no noise"),
    ],
)
def test_an_unknown_kind_is_named_with_what_is_allowed(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture(12, 4, 2, 8, 1, **settings)


def test_the_scale_has_a_soft_floor() -> None:
    x = torch.randn(100, 5, dtype=torch.float64)
    model = Vae.from_components(Architecture(5, 5, 2, 8, 1, scale_floor=0.1), principal_components(x))
    with torch.no_grad():
        start = model.scale.item()
        model.log_scale.fill_(-30.0)
    assert start**2 == pytest.approx(principal_components(x).noise_variance(2).item())
    assert model.scale.item() == pytest.approx(0.1)
