import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import ConfigError
from pipeline.models import build, require_weights
from pipeline.models.__main__ import build_parser, listing, main
from pipeline.models.table import BACKBONES, find
from pipeline.models.weights import HUB_FILE, hub_repository, load_weights

SIZE = 64


@pytest.fixture
def sibling():
    """A small ResNet-50 whose weights differ from any that a test builds afterwards."""
    torch.manual_seed(11)
    return build("resnet50", small=True, size=SIZE)


def save(state, path):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


def for_rgb(state, name="conv1.0.weight"):
    """A state dict as ImageNet training leaves it: three input channels, 1000 classes."""
    classes = {"fc.weight": torch.zeros(1000, state["fc.weight"].shape[1]), "fc.bias": torch.zeros(1000)}
    return {**state, **classes, name: state[name][:, :3].clone()}


@pytest.mark.parametrize("file", ["weights.pt", "weights.safetensors"])
def test_a_checkpoint_fills_the_backbone_and_leaves_the_output_fresh(sibling, tmp_path, file):
    path = save(sibling.state_dict(), tmp_path / file)
    model = build("resnet50", small=True, pretrained=path, size=SIZE)
    assert torch.equal(model.layer4[0].conv2.weight, sibling.layer4[0].conv2.weight)
    assert torch.equal(model.conv1[0].weight, sibling.conv1[0].weight)
    assert not torch.equal(model.fc.weight, sibling.fc.weight)


def test_rgb_weights_are_repeated_over_the_twelve_channels(sibling, tmp_path):
    path = save(for_rgb(sibling.state_dict()), tmp_path / "rgb.pt")
    model = build("resnet50", small=True, pretrained=path, size=SIZE)
    rgb = sibling.conv1[0].weight[:, :3]
    assert torch.allclose(model.conv1[0].weight, rgb.repeat(1, 4, 1, 1) / 4)


def test_a_pose_network_loads_its_backbone_only(tmp_path):
    torch.manual_seed(12)
    source = build("hrnet", small=True, size=SIZE).backbone
    head = {"classifier.weight": torch.zeros(1000, 8), "stage4.2.fuse_layers.1.0.weight": torch.zeros(1)}
    path = save({**source.state_dict(), **head}, tmp_path / "hrnet.pt")
    model = build("hrnet", small=True, pretrained=path, size=SIZE)
    assert torch.equal(model.backbone.conv2.weight, source.conv2.weight)


@pytest.mark.parametrize("name", ["hrnet", "poseresnet152"])
def test_timms_checkpoint_fits_the_pose_networks_backbone_by_name(name, full_size):
    backbone = find(name)
    with torch.device("meta"):
        published = timm.create_model(backbone.weights).state_dict()
    loaded = {key for key in published if not key.startswith(backbone.not_loaded)}
    assert loaded == set(full_size(name).backbone.state_dict())


def test_a_fresh_stem_keeps_its_random_weights_and_the_rest_is_loaded(tmp_path):
    torch.manual_seed(1)
    source = build("resnet50", small=True, size=SIZE)
    path = save(source.state_dict(), tmp_path / "resnet50.pt")
    torch.manual_seed(2)
    random = build("resnet50", small=True, size=SIZE)
    torch.manual_seed(2)
    model = build("resnet50", small=True, pretrained=path, size=SIZE, stem="fresh")
    assert torch.equal(model.conv1[0].weight, random.conv1[0].weight)
    assert torch.equal(model.conv1[3].weight, source.conv1[3].weight)


def test_differing_shapes_are_named(sibling, tmp_path):
    state = sibling.state_dict()
    state["layer1.0.conv1.weight"] = torch.zeros(5, 16, 1, 1)
    path = save(state, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match=r"layer1\.0\.conv1\.weight is \[5, 16, 1, 1\], needs \[8, 16"):
        build("resnet50", small=True, pretrained=path, size=SIZE)


def test_missing_and_unknown_names_are_named(sibling, tmp_path):
    state = sibling.state_dict()
    state["layer9.weight"] = state.pop("bn1.weight")
    path = save(state, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match=r"bn1\.weight is missing; layer9\.weight is unknown here"):
        build("resnet50", small=True, pretrained=path, size=SIZE)


def test_another_architecture_is_refused_with_a_short_list(sibling, tmp_path):
    path = save(sibling.state_dict(), tmp_path / "resnet50.pt")
    with pytest.raises(ConfigError, match=r"does not fit convnext: .* and \d+ more\. Give a checkpoint"):
        build("convnext", small=True, pretrained=path, size=SIZE)


def test_a_checkpoint_without_batch_counters_is_accepted(sibling, tmp_path):
    state = {k: v for k, v in sibling.state_dict().items() if not k.endswith("num_batches_tracked")}
    load_weights(sibling, find("resnet50"), tmp_path / save(state, tmp_path / "old.pt"))


def test_nothing_in_a_file_is_executed(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(1, 1), path)
    with pytest.raises(ConfigError, match=r"model\.pt is not a state dict"):
        build("resnet50", small=True, pretrained=str(path), size=SIZE)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ConfigError, match=r"model\.safetensors cannot be read as a checkpoint"):
        build("resnet50", small=True, pretrained=str(path), size=SIZE)


def test_a_training_checkpoint_is_not_a_state_dict(sibling, tmp_path):
    path = save({"model": sibling.state_dict(), "epoch": 3}, tmp_path / "latest.pt")
    with pytest.raises(ConfigError, match=r"latest\.pt is not a state dict: expected tensors by name"):
        build("resnet50", small=True, pretrained=path, size=SIZE)


@pytest.mark.parametrize(
    ("pretrained", "message"),
    [("imagenet", r"imagenet is neither true, false nor a checkpoint \(\.pt, \.pth, \.safetensors\)"),
     ("gone.pt", r"gone\.pt: no such file")],
)  # fmt: skip
def test_a_path_that_leads_nowhere_is_refused(pretrained, message):
    with pytest.raises(ConfigError, match=message):
        require_weights("resnet50", pretrained)


def test_none_are_required_without_pretraining():
    assert require_weights("resnet50", False) is None


def test_the_small_sibling_has_no_imagenet_weights():
    with pytest.raises(ConfigError, match=r"small convnext has no pretrained weights; .*--set model"):
        require_weights("convnext", True, small=True)


def run_with_hub(folder, code):
    """Runs code in a process whose Hugging Face cache is `folder`: the library reads HF_HOME on import."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HOME": str(folder), "PATH": "", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_missing_imagenet_weights_say_where_and_how(tmp_path):
    done = run_with_hub(
        tmp_path,
        "from pipeline import cli, models\ncli.run(lambda: models.require_weights('resnest269', True))",
    )
    assert done.returncode == 2
    assert str(tmp_path / "hub" / "models--timm--resnest269e.in1k") in done.stderr
    assert "python -m pipeline.models fetch resnest269" in done.stderr
    assert "--set model.pretrained=false" in done.stderr


@pytest.mark.parametrize("command", ["tune.search", "pipeline.train"])
def test_without_the_weights_nothing_is_rendered_or_started(tmp_path, command):
    options = ["--model", "resnest269", "--profile", "full", "--runs", str(tmp_path / "runs")]
    options += ["--executor", "local"] if command == "tune.search" else []
    done = run_with_hub(
        tmp_path / "cache",
        f"from pipeline import cli; from {command} import main\ncli.run(lambda: main({options}))",
    )
    assert done.returncode == 2
    assert "error: the ImageNet weights of resnest269 are not on this machine" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_cached_imagenet_weights_are_found_without_a_network(tmp_path):
    revision = tmp_path / "hub" / "models--timm--resnet50.tv_in1k" / "snapshots" / "abc"
    revision.mkdir(parents=True)
    (revision / HUB_FILE).write_bytes(b"weights")
    refs = revision.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    done = run_with_hub(
        tmp_path, "from pipeline.models import require_weights; print(require_weights('resnet50', True))"
    )
    assert done.stdout.strip() == str(revision / HUB_FILE)


def test_fetch_without_internet_says_what_to_do(tmp_path):
    done = run_with_hub(
        tmp_path,
        "from pipeline import cli\nfrom pipeline.models.__main__ import main\n"
        "cli.run(lambda: main(['fetch', 'resnet152']))",
    )
    assert done.returncode == 2
    assert f"{HUB_FILE} of timm/resnet152.tv_in1k could not be downloaded" in done.stderr
    assert "HF_HOME" in done.stderr


def test_fetch_checks_all_names_first():
    with pytest.raises(ConfigError, match="unknown model 'resnet18'"):
        main(["fetch", "resnet50", "resnet18"])


def test_the_command_has_examples():
    assert "python -m pipeline.models fetch resnest269" in build_parser().format_help()


def test_repositories_are_timms():
    for backbone in BACKBONES.values():
        assert timm.get_pretrained_cfg(backbone.weights).hf_hub_id == hub_repository(backbone)


def test_the_listing_has_a_line_for_each():
    lines = listing(["resnet50", "hrnet"]).splitlines()
    assert lines[1].split()[:4] == ["resnet50", "resnet50", "23.561", "resnet50-small"]
    assert lines[2].split()[:4] == ["hrnet", "hrnet_w48-pose", "64.052", "hrnet-small"]
