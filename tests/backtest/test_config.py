"""The configuration: defaults, one loader, one hash, and every refusal with its place."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path

import pytest
from small_runs import small_quotes

from backtest.cli.main import main
from backtest.config import BOUNDS, POLICIES, RunConfig, load_config
from data.errors import ConfigError
from data.quote_writer import write_quotes

CONFIG_PAGE = (Path(__file__).parents[2] / "docs" / "CONFIG.md").read_text(encoding="utf-8")


def loaded(folder: Path, text: str) -> RunConfig:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert loaded(tmp_path, "") == load_config(None) == RunConfig()


def test_values_reach_their_fields(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """
        confidence = 0.9
        [walk_forward]
        train_days = 30
        purge_minutes = 5
        [routing]
        policies = ["linucb", "sweep"]
        alpha = 2
        [model]
        hidden = [8]
        """,
    )
    assert config.confidence == 0.9
    assert config.walk_forward.train_days == 30
    assert config.walk_forward.test_days == RunConfig().walk_forward.test_days
    assert config.walk_forward.purge_minutes == 5.0
    assert isinstance(config.walk_forward.purge_minutes, float)
    assert config.routing.policies == ("linucb", "sweep")
    assert config.routing.alpha == 2.0
    assert config.model.hidden == (8,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1", "unknown key 'colour'"),
        ("[walk_forward]\ntrain = 1", "walk_forward: unknown key 'train'; known are .*train_days"),
        ("[walk_forward]\ntrain_days = 1.5", "walk_forward: train_days must be int, was 1.5"),
        ("[walk_forward]\ntrain_days = true", "train_days must be int, was True"),
        ("[walk_forward]\ntrain_days = 0", "walk_forward.train_days must be 1 to 36,500, was 0"),
        ("[walk_forward]\npurge_minutes = -1", "purge_minutes must be 0 to 525,600"),
        ("[walk_forward]\npurge_minutes = nan", "purge_minutes must be finite, was nan"),
        ("[walk_forward]\nembargo_hours = inf", "embargo_hours must be finite, was inf"),
        ("walk_forward = 3", "walk_forward must be a table, was 3"),
        ("[routing]\npolicies = 'linucb'", "policies must be a list"),
        ("[routing]\npolicies = ['linucb', 'luck']", "routing.policies must name different ones"),
        ("[routing]\npolicies = ['linucb', 'linucb']", "routing.policies must name different ones"),
        ("[routing]\npolicies = ['sweep']", "linucb among them"),
        ("[routing]\npolicies = []", "linucb among them"),
        ("[routing]\nepsilon = 1.5", "routing.epsilon must be 0 to 1"),
        ("[routing]\nalpha = nan", "alpha must be finite"),
        ("[routing]\nridge = 0", "routing.ridge must be 1e-09 to 1,000,000,000, was 0"),
        ("[parents]\nduration_minutes = inf", "duration_minutes must be finite"),
        (
            "[parents]\nsize_lots_min = 9\nsize_lots_max = 8",
            "size_lots_min must be at most size_lots_max, 8, was 9",
        ),
        ("[parents]\nslices = 0", "parents.slices must be 1 to 1,000, was 0"),
        ("[model]\nsample_horizon = 400", "sample_horizon must be below sample_stride"),
        ("[model]\nhidden = []", "model.hidden must name"),
        ("[model]\nhidden = [0]", "model.hidden must be 1 to 1,024, was 0"),
        ("[sensitivity]\npolicies = ['luck']", "sensitivity.policies must name different ones"),
        ("[sensitivity]\npolicies = ['sweep']", "linucb among them"),
        ("[sensitivity]\nshare = 1.5", "sensitivity.share must be 0 to 1"),
        ("[risk]\norder_size_lots_max = 0", "risk.order_size_lots_max must be 1 to"),
        ("[risk]\nprice_band_bps = 0", "risk.price_band_bps must be 0.01 to 10,000"),
        ("confidence = 1.0", "confidence must be 0.5 to 0.9999"),
        ("confidence = 'high'", "confidence must be float, was 'high'"),
        ("[routing]\nridge = 1e-320", "routing.ridge must be 1e-09"),
        ("[routing]\nprotection_spreads = 101", "routing.protection_spreads must be 0 to 100"),
        ("[routing]\npost_seconds = 1e300", "routing.post_seconds must be"),
        ("[routing]\ndecision_us = 1e300", "routing.decision_us must be"),
        ("[parents]\nduration_minutes = 0.001", "parents.duration_minutes must be 0.1 to 1,440"),
        ("[parents]\nduration_minutes = 1e12", "parents.duration_minutes must be 0.1 to 1,440"),
        ("[parents]\nslices = 4294967296", "parents.slices must be 1 to 1,000"),
        ("[parents]\nsize_lots_max = 99223372036854775807", "parents.size_lots_max must be"),
        (f"[model]\nsample_stride = {10**21}", "model.sample_stride must be"),
        ("[walk_forward]\npurge_minutes = 1e300", "walk_forward.purge_minutes must be"),
        ("[walk_forward]\nembargo_hours = 1e300", "walk_forward.embargo_hours must be"),
        (f"[routing]\nalpha = {10**400}", "alpha must be finite"),
        (f"[parents]\nslices = {'9' * 5_000}", "not a TOML file"),
        (f"[model]\nhidden = {[8] * 9}", "model.hidden must name 1 to 8 widths"),
        ("[parents]\nsize_lots_max = 6001\nslices = 3", "parents.size_lots_max / slices must not exceed"),
        ("[risk]\norder_size_lots_max = 149", "risk.order_size_lots_max, 149, was 150"),
        ("venue_ranges = 3", "venue_ranges must be str, was 3"),
        ("confidence = ", "not a TOML file"),
    ],
)
def test_refusals_name_file_place_and_value(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        loaded(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "run.toml"))


def numeric_settings() -> list[tuple[str, str, bool]]:
    """Section, key, and whether it is whole, of every number that a file can set."""
    found = []
    for section in fields(RunConfig):
        config = getattr(RunConfig(), section.name)
        for entry in fields(config) if is_dataclass(config) else ():
            value = getattr(config, entry.name)
            first = value[0] if isinstance(value, tuple) else value
            if isinstance(first, (int, float)):
                found.append((section.name, entry.name, isinstance(first, int)))
    return found


@pytest.mark.parametrize(("section", "key", "whole"), numeric_settings())
def test_every_number_has_bounds_that_are_documented_and_kept(
    tmp_path: Path, section: str, key: str, whole: bool
) -> None:
    low, high = BOUNDS[section][key]
    (row,) = (line for line in CONFIG_PAGE.splitlines() if line.startswith(f"| `{key}` |"))
    assert f"{low:,} to {high:,}" in row
    step = 1 if whole else 1e-12
    for beyond in (low - step, high + step * high):
        text = f"[{beyond!r}]" if key == "hidden" else repr(beyond)
        with pytest.raises(ConfigError, match=rf"run\.toml: {section}: {section}\.{key} must be"):
            loaded(tmp_path, f"[{section}]\n{key} = {text}")


@pytest.mark.parametrize("side", [0, 1], ids=["lowest", "highest"])
def test_a_run_with_every_number_on_its_bound_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], side: int
) -> None:
    monkeypatch.chdir(tmp_path)
    write_quotes(small_quotes(years=0.02, rows_per_day=100), tmp_path / "ticks")
    lines = ["[routing]", 'policies = ["linucb", "single_post"]', "[sensitivity]", 'policies = ["linucb"]']
    for section, keys in BOUNDS.items():
        known = [number for number, line in enumerate(lines) if line == f"[{section}]"]
        place = known[0] + 1 if known else len(lines)
        settings = [
            f"{key} = {[pair[side]] if key == 'hidden' else pair[side]!r}" for key, pair in keys.items()
        ]
        lines[place:place] = settings if known else [f"[{section}]", *settings]
    Path("run.toml").write_text("\n".join(lines), encoding="utf-8")
    arguments = [
        "--market-data",
        "ticks",
        "--config",
        "run.toml",
        "--quiet",
        "--no-journals",
        "--no-sensitivity",
    ]
    assert main(["run", *arguments]) == 0, capsys.readouterr().err


def test_the_defaults_and_their_neighbours_on_the_bound_are_kept(tmp_path: Path) -> None:
    config = loaded(tmp_path, "[parents]\nsize_lots_max = 6000\nslices = 3\n[routing]\nridge = 1e-9")
    assert config.parents.size_lots_max == 3 * config.risk.order_size_lots_max
    assert 1 / config.routing.ridge < float("inf")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load_config(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b'venue_ranges = "\xe9"')
    with pytest.raises(ConfigError, match=r"latin\.toml: not a TOML file"):
        load_config(tmp_path / "latin.toml")


def test_the_digest_follows_every_value_and_nothing_else(tmp_path: Path) -> None:
    default = RunConfig().digest()
    assert loaded(tmp_path, "confidence = 0.95\n[routing]\nalpha = 1.0").digest() == default
    assert loaded(tmp_path, "confidence = 0.9").digest() != default
    assert loaded(tmp_path, "[model]\nhidden = [32]").digest() != default


def test_configuration_is_frozen_all_the_way_down() -> None:
    config = RunConfig()
    with pytest.raises(FrozenInstanceError):
        config.confidence = 0.9  # type: ignore[misc]
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            name = fields(value)[0].name
            with pytest.raises(FrozenInstanceError):
                setattr(value, name, 1)


def test_the_report_can_show_every_value() -> None:
    shown = RunConfig().as_dict()
    assert shown["routing"]["policies"] == POLICIES
    assert set(shown) == {entry.name for entry in fields(RunConfig)}
