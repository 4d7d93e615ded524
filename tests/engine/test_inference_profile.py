from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_samples import linear_model

from data.errors import ConfigError, DataError
from engine.inference.profile import (
    LatencyProfile,
    ModelProfile,
    format_profile,
    load_profile,
    measure_latency,
    profile_of,
)
from engine.inference.session import OrtSession

LATENCY = LatencyProfile(repetitions=9, floor_ns=1, p50_ns=2, p99_ns=3, p999_ns=4, max_ns=5)
PROFILE = ModelProfile(machine="m", python="3", onnxruntime="1", model="x", latency={"fp32": LATENCY})


def test_the_built_in_profile_covers_both_precisions():
    profile = load_profile()
    assert profile.latency_ns("fp32") > 0
    assert profile.latency_ns("int8") > 0


def test_a_measurement_times_every_call_and_orders_its_percentiles():
    class Counting:
        row_shape, calls = (4,), 0

        def signal(self, features):
            assert features.shape == (4,)
            assert features.dtype == np.float32
            self.calls += 1
            return 0.0

    session = Counting()
    found = measure_latency(session, repetitions=300)
    assert found.repetitions == 300
    assert session.calls == 300 + 1_000
    assert found.p50_ns <= found.p99_ns <= found.p999_ns <= found.max_ns


def test_a_real_session_can_be_measured():
    session = OrtSession.from_bytes(linear_model().SerializeToString())
    profile = profile_of({"fp32": measure_latency(session, repetitions=50)}, model="linear")
    assert profile.latency_ns("fp32") == profile.latency["fp32"].p50_ns
    with pytest.raises(ConfigError, match="must cover 'int8'"):
        profile.latency_ns("int8")
    with pytest.raises(ConfigError, match="repetitions"):
        measure_latency(session, repetitions=0)


@given(st.text(st.characters(codec="utf-8")), st.lists(st.integers(0, 10**9), min_size=4, max_size=4))
def test_a_written_profile_reads_back_equal(tmp_path_factory, text, times):
    p50, p99, p999, most = sorted(times)
    latency = LatencyProfile(repetitions=3, floor_ns=0, p50_ns=p50, p99_ns=p99, p999_ns=p999, max_ns=most)
    profile = dataclasses.replace(PROFILE, machine=text, latency={"fp32": LATENCY, "int8": latency})
    path = tmp_path_factory.mktemp("profile") / "p.toml"
    path.write_text(format_profile(profile), encoding="utf-8")
    assert load_profile(path) == profile


@pytest.mark.parametrize(
    ("before", "after", "match"),
    [
        ("schema_version = 1", "schema_version = 2", "schema_version must be 1"),
        ('model = "x"', 'model = "x"\ncolour = 1', r"unknown \['colour'\]"),
        ('model = "x"', "", r"missing \['model'\]"),
        ('model = "x"', "model = 4", "must be text"),
        ("p50_ns = 2", "", r"\[fp32\] must hold exactly"),
        ("p50_ns = 2", "p50_ns = 2.5", r"\[fp32\]: a latency profile"),
        ("p50_ns = 2", "p50_ns = -2", r"\[fp32\]: a latency profile"),
        ("p50_ns = 2", "p50_ns = 20", "percentiles must ascend"),
        ("[fp32]", "[fp16]", r"unknown \['fp16'\]"),
    ],
)
def test_a_foreign_profile_is_refused_naming_file_and_key(tmp_path, before, after, match):
    path = tmp_path / "p.toml"
    path.write_text(format_profile(PROFILE).replace(before, after))
    with pytest.raises(ConfigError, match=match) as caught:
        load_profile(path)
    assert "p.toml" in str(caught.value)


def test_an_unreadable_profile_is_refused_naming_the_file(tmp_path):
    with pytest.raises(DataError, match=r"absent\.toml"):
        load_profile(tmp_path / "absent.toml")
    (tmp_path / "noise.toml").write_bytes(b"\xff\xfe = [")
    with pytest.raises(DataError, match=r"noise\.toml"):
        load_profile(tmp_path / "noise.toml")
