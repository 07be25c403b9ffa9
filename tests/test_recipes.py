"""Recipes: the paper's values, the authors' network tensor by tensor, a source for every field."""
import subprocess
import sys
from dataclasses import fields, replace

import authors
import pytest
import torch

from psr_fer.models.convert import from_authors
from psr_fer.recipes import RECIPES, Recipe, differences, get_recipe, sources
from psr_fer.runs import build_model, check_sizes, train_run


def meta(recipe, n): # without memory and time for the weights
    with torch.device("meta"): return build_model(recipe, n)


def fits(model, state): # names and shapes, both ways, but for buffers that a checkpoint need not have
    mine = {k: tuple(v.shape) for k, v in model.state_dict().items() if "_mean." not in k and not k.endswith("num_batches_tracked")}
    theirs = {k: tuple(v.shape) for k, v in state.items() if "_mean." not in k and not k.endswith("num_batches_tracked")}
    return mine == theirs


@pytest.mark.slow
@pytest.mark.parametrize("name,size,n_classes,parameters", [("ferplus-authors", 96, 8, 20_231_979), ("rafdb-authors", 100, 7, 20_244_586)])
def test_authors_checkpoint_fits_their_recipe(name, size, n_classes, parameters):
    recipe = RECIPES[name]
    state = authors.fill(authors.names(size, n_classes, [1, 2, 1], 24), 5)
    theirs, ours = from_authors(state, size), build_model(recipe, n_classes)
    assert (recipe.size, recipe.pos, ours.cut.after) == (size, 7, "features.23")
    assert sum(o.numel() for o in ours.parameters()) == sum(o.numel() for k, o in state.items() if "running" not in k and "num_" not in k) == parameters
    assert fits(ours, theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = authors.inputs(5, 2, size)
    with torch.no_grad(): torch.testing.assert_close(ours.eval()(x), theirs(x), rtol=0, atol=0)


@pytest.mark.slow
def test_authors_start_fits_its_recipe():
    recipe = RECIPES["ferplus-authors-start"]
    theirs = from_authors(authors.fill(authors.plain_names(8), 3), 144)
    assert fits(build_model(recipe, 8), theirs.state_dict())
    assert RECIPES["rafdb-authors"].init == recipe.name
    assert recipe.frozen_epochs == 20 and (*recipe.base, (recipe.size, recipe.epochs)) == ((48, 0), (96, 20), (144, 20))


@pytest.mark.parametrize("field,value", dict(arch="vgg16", weights="imagenet", head="paper", pos=6, kstep=1, stn=True, fusion="weighted", loss="pdls", alpha=.9,
    soft=False, frozen_epochs=20, lr=1e-3, sgd_epochs=0, views="paper", views_n=8, sr_weights="published").items())
@pytest.mark.parametrize("name", ["ferplus-paper", "rafdb-paper", "affectnet8-paper", "affectnet7-paper"])
def test_paper_value(name, field, value): assert getattr(RECIPES[name], field) == value


def test_paper_sizes_rates_and_losses():
    assert RECIPES["ferplus-paper"].base == ((48, 20), (96, 20), (192, 20)) and RECIPES["rafdb-paper"].base == ((50, 20), (100, 20), (150, 20))
    assert RECIPES["rafdb-paper"].size == 100 and RECIPES["ferplus-paper"].rates["stn"]/RECIPES["ferplus-paper"].rates["head"] == pytest.approx(.1)
    assert {o.loss for k, o in RECIPES.items() if k.endswith("-paper-vgg16")} == {"ls"} # Table 8: 85.89 is LS
    head = meta(RECIPES["ferplus-paper"], 8).head
    assert sum(isinstance(o, torch.nn.BatchNorm1d) for o in head) == 1 and isinstance(head[0], torch.nn.BatchNorm1d)
    assert not any(isinstance(o, torch.nn.BatchNorm2d) for o in meta(RECIPES["ferplus-paper"], 8).modules())


@pytest.mark.slow
def test_kstep_2_has_a_recipe_that_works():
    recipe = RECIPES["ferplus-paper-kstep2"]
    assert (recipe.kstep, recipe.size) == (2, 128)
    check_sizes(recipe)
    assert meta(recipe, 8).n_branches == 4
    with pytest.raises(ValueError, match="smallest branch has 24. The smallest size that works is 128"): check_sizes(replace(recipe, size=96))


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_feasible_and_tells_its_sources(name):
    check_sizes(RECIPES[name])
    told = sources(RECIPES[name])
    assert set(told) == {o.name for o in fields(Recipe)} - {"name", "source"} and all(told.values())


@pytest.mark.slow
def test_sizes_are_checked_before_anything_is_trained(faces, tmp_path):
    recipe = get_recipe("rafdb-paper", ["size=50", "weights=none", "sr_weights=none"]) # Fig. 11's 50 px
    with pytest.raises(ValueError, match="50 pixels are too small for vgg16, which needs 32; its smallest branch has 25"):
        train_run(replace(recipe, dataset="synthetic"), faces, tmp_path/"run")
    with pytest.raises(ValueError, match="24 pixels are too small"): check_sizes(get_recipe("ferplus-paper", ["base=[[24,1]]"]))
    assert not (tmp_path/"run").exists()


@pytest.mark.slow
def test_a_recipe_that_starts_from_another_says_so(faces, tmp_path):
    with pytest.raises(ValueError, match="starts from a finished run of ferplus-authors-start"):
        train_run("rafdb-authors", faces, tmp_path/"run")


@pytest.mark.slow
@pytest.mark.parametrize("sets,changed", [(["head=paper"], "head"), (["pool=avg"], "pool"), (["sr_range=authors"], "sr_range"), (["lowres_grad=true"], "lowres_grad")])
def test_block_options_reach_the_network(sets, changed):
    recipe = get_recipe("synthetic-demo", sets)
    assert meta(recipe, 8).config[changed] == getattr(recipe, changed) != meta(RECIPES["synthetic-demo"], 8).config[changed]


def test_changed_fields_are_no_longer_the_papers():
    recipe = get_recipe("ferplus-paper", ["lr=0.002"])
    assert sources(replace(recipe, name="ferplus-paper+lr=0.002"))["lr"] == "changed"
    assert differences(recipe) == dict(lr=(.002, .001)) and differences(RECIPES["ferplus-paper-vgg16"]) == {}


@pytest.mark.slow
def test_recipes_command_needs_no_torch():
    code = "import sys; from psr_fer.cli import app; app(sys.argv[1:], standalone_mode=False); print('torch' in sys.modules)"
    def run(*args): return subprocess.run([sys.executable, "-c", code, "recipes", *args], capture_output=True, text=True).stdout
    listed, one = run(), run("ferplus-authors")
    assert all(k in listed for k in RECIPES) and listed.strip().endswith("False")
    for o in ("pos", "7", "convolutions", "authors' code", "Differs from the paper's recipe"): assert o in one


@pytest.mark.slow
def test_balanced_sampling_and_mixup_reach_the_training(faces):
    from fastai.callback.mixup import MixUp

    from psr_fer.data.ferplus import ferplus_table
    from psr_fer.runs import Run, recipe_learner
    recipe = get_recipe("synthetic-demo", ["balanced=true", "mixup=0.4", "size=32", "batch_size=16", "ema=0", "precision=float32"])
    class Fake: # what Run.dls asks of a run
        table, seed, cache = ferplus_table(faces, labels="label.csv"), 0, "memory"
    Fake.recipe = recipe
    dls = Run.dls(Fake, 32)
    drawn = torch.cat([y for _ in range(4) for _, y in dls.train])
    counts = torch.bincount(drawn.argmax(1) if drawn.ndim == 2 else drawn, minlength=8)
    there = Fake.table.query("split == 'train'")["label"].value_counts()
    assert counts.max()/counts.sum() < .8*there.max()/there.sum() # the largest class is drawn less often than it occurs
    learn = recipe_learner(recipe, dls, build_model(replace(recipe, model="baseline"), 8))
    assert [o for o in learn.cbs if isinstance(o, MixUp)] and not [o for o in recipe_learner(replace(recipe, mixup=0.), dls, learn.model).cbs if isinstance(o, MixUp)]


def test_former_field_names_still_work():
    assert get_recipe("synthetic-demo", ["views=flip", "views_n=3"]) == get_recipe("synthetic-demo", ["tta=flip", "n_tta=3"])
    recipe = get_recipe("synthetic-demo", ["tta=flip", "n_tta=3"])
    assert (recipe.views, recipe.views_n) == ("flip", 3) and not {"views", "views_n"} & {o.name for o in fields(recipe)}
